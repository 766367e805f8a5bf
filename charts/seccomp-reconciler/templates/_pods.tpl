{{/* Labels of every object: (list . component). */}}
{{- define "seccomp-reconciler.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ include "seccomp-reconciler.label" (printf "%s-%s" $root.Chart.Name $root.Chart.Version) | quote }}
{{- with include "seccomp-reconciler.label" $root.Chart.AppVersion }}
app.kubernetes.io/version: {{ quote . }}
{{- end }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/instance: {{ include "seccomp-reconciler.label" $root.Release.Name | quote }}
{{ include "seccomp-reconciler.selector" (index . 1) }}
{{- end -}}

{{/* A text as the value of a label: at most 63 of its letters, digits, dashes, underscores and dots, no separator at either end. */}}
{{- define "seccomp-reconciler.label" -}}
{{- $allowed := regexReplaceAll "[^A-Za-z0-9._-]" (toString .) "_" | trimAll "-_." -}}
{{- $allowed | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{/* Labels by which the pods of a component are found. */}}
{{- define "seccomp-reconciler.selector" -}}
app.kubernetes.io/name: seccomp-reconciler
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{/*
Labels of a pod: (list . component). The webhook leaves it out by `app` and by the skip label, and so do those of
gardener-resource-manager's webhooks that would otherwise refuse it while nobody answers them. None of them has anything
to do here: the profile, the token (or its absence) and the spread are stated. Who talks to the API server is let out by
Gardener's NetworkPolicies.
*/}}
{{- define "seccomp-reconciler.podLabels" -}}
{{- $registration := (fromYaml (include "seccomp-reconciler.settings" (index . 0))).registration -}}
app: {{ $registration.ownAppName | quote }}
{{ include "seccomp-reconciler.selector" (index . 1) }}
seccompprofile.resources.gardener.cloud/skip: "true"
{{- if ne $registration.skipLabel "seccompprofile.resources.gardener.cloud/skip" }}
{{ $registration.skipLabel }}: "true"
{{- end }}
projected-token-mount.resources.gardener.cloud/skip: "true"
topology-spread-constraints.resources.gardener.cloud/skip: "true"
{{- if ne (index . 1) "server" }}
networking.gardener.cloud/to-dns: allowed
networking.gardener.cloud/to-runtime-apiserver: allowed
{{- end }}
{{- end -}}

{{/* What every pod's spec says. */}}
{{- define "seccomp-reconciler.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- include "seccomp-reconciler.yaml" . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- include "seccomp-reconciler.yaml" . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- include "seccomp-reconciler.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Of all but the cleanup Jobs: they must run when the chart that brought the class is gone. */}}
{{- define "seccomp-reconciler.priority" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* What every container says, besides its arguments: (list . resources). */}}
{{- define "seccomp-reconciler.container" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
name: seccomp-reconciler
image: {{ if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ $image.pullPolicy }}
# An error's words are seen in the pod's status, too.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with index . 1 }}
resources:
  {{- include "seccomp-reconciler.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Mounts and volumes of who reads the settings. */}}
{{- define "seccomp-reconciler.mounts" -}}
- name: config
  mountPath: /etc/seccomp-reconciler/config
  readOnly: true
{{- if .Values.gardenletDocument }}
- name: gardenlet-config
  mountPath: /etc/gardenlet/config
  readOnly: true
{{- end }}
{{- end -}}

{{- define "seccomp-reconciler.volumes" -}}
- name: config
  configMap:
    name: seccomp-reconciler
{{- if .Values.gardenletDocument }}
- name: gardenlet-config
  configMap:
    name: seccomp-reconciler-gardenlet
{{- end }}
{{- end -}}

{{/* Spread of a Deployment's pods: (list . component). */}}
{{- define "seccomp-reconciler.spread" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $spread := $root.Values.topologySpread -}}
{{- $terms := list (list "kubernetes.io/hostname" $spread.hostname) (list "topology.kubernetes.io/zone" $spread.zone) -}}
{{- if or $spread.hostname $spread.zone -}}
topologySpreadConstraints:
{{- range $terms }}
{{- if index . 1 }}
  - topologyKey: {{ index . 0 }}
    maxSkew: 1
    whenUnsatisfiable: {{ index . 1 }}
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "seccomp-reconciler.selector" $component | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Labels of a Deployment: replicas and spread are ours to say, also while gardener-resource-manager is away. */}}
{{- define "seccomp-reconciler.deploymentLabels" -}}
{{ include "seccomp-reconciler.labels" . }}
high-availability-config.resources.gardener.cloud/skip: "true"
{{- end -}}
