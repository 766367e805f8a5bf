// Command server is the admission benchmark's peer: a controller-runtime webhook server on 127.0.0.1 that does for a
// pod what the webhook of Gardener's resource manager does. It ends on SIGTERM.
package main

import (
	"crypto/tls"
	"flag"
	"os"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const path = "/webhooks/seccomp-profile"

func main() {
	port := flag.Int("port", 9443, "port on 127.0.0.1")
	certificates := flag.String("cert-dir", "", "folder with tls.crt and tls.key")
	logging := flag.Bool("log", true, "write a line for each pod that is changed, as upstream does (after the first "+
		"hundred of a second one in a hundred: the default of controller-runtime's logger)")
	flag.Parse()

	logger := logr.Discard()
	if *logging {
		logger = zap.New(zap.Level(zapcore.InfoLevel), zap.JSONEncoder())
	}
	log.SetLogger(logger)

	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	server := webhook.NewServer(webhook.Options{
		Host:    "127.0.0.1",
		Port:    *port,
		CertDir: *certificates,
		// The API server calls webhooks by HTTP/1.1; an HTTP/2 that nobody speaks need not be offered.
		TLSOpts: []func(*tls.Config){func(config *tls.Config) { config.NextProtos = []string{"http/1.1"} }},
	})
	server.Register(path, &admission.Webhook{
		Handler: &defaulting{decoder: admission.NewDecoder(scheme), log: logger.WithName("seccomp-profile")},
	})
	if err := server.Start(signals.SetupSignalHandler()); err != nil {
		logger.Error(err, "The webhook server ended")
		os.Stderr.WriteString("server: " + err.Error() + "\n")
		os.Exit(1)
	}
}
