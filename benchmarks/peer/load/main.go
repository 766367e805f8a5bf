// Command load sends one AdmissionReview again and again over kept TLS connections, as the API server would, and prints
// what it measured as one JSON object. Each connection waits for its answer before it asks again.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

func main() {
	address := flag.String("url", "", "address of the webhook: https://127.0.0.1:PORT/PATH")
	bodyFile := flag.String("body", "", "file with the AdmissionReview")
	caFile := flag.String("ca", "", "file with the certificate of the authority that signed the server's")
	connections := flag.Int("connections", 16, "number of connections")
	warmUp := flag.Duration("warm-up", 2*time.Second, "time before the measurement")
	duration := flag.Duration("duration", 8*time.Second, "time of the measurement")
	flag.Parse()

	report, err := measure(*address, *bodyFile, *caFile, *connections, *warmUp, *duration)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// measure runs all connections until the time is over and returns what they saw between warm-up and end.
func measure(address, bodyFile, caFile string, number int, warmUp, duration time.Duration) (*report, error) {
	authority, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New(caFile + " holds no certificate")
	}
	body, err := os.ReadFile(bodyFile)
	if err != nil {
		return nil, err
	}
	settings := &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}
	all := make([]*connection, number)
	for index := range all {
		if all[index], err = newConnection(address, body, settings, index); err != nil {
			return nil, err
		}
		defer all[index].close()
	}

	begin := time.Now().Add(warmUp)
	end := begin.Add(duration)
	var running sync.WaitGroup
	for _, one := range all {
		running.Go(func() { one.run(begin, end) })
	}
	time.Sleep(time.Until(begin))
	used := processorTime()
	running.Wait()
	return newReport(all, duration, processorTime()-used), nil
}
