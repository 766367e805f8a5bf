{{/*
What a reconciler may do in namespaces, as YAML: {named: {namespace: [rules]}, create: {namespace: [rules]}}. The names
are those of the settings. docs/security.md says why each rule is there.
*/}}
{{- define "seccomp-reconciler.rules" -}}
{{- $settings := fromYaml (include "seccomp-reconciler.settings" .) -}}
{{- $ca := $settings.registration.ca -}}
{{- $lease := $settings.leaderElection -}}
{{- $source := $settings.gardenletConfiguration -}}
{{- $named := dict -}}
{{- $create := dict -}}
{{- $read := list "get" "list" "watch" -}}
{{- with $ca.selfSigned -}}
{{- include "seccomp-reconciler.rule" (list $create .namespace "" "secrets" nil (list "create")) -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "" "secrets" (list .authoritySecret .servingSecret) (list "get" "list" "watch" "patch")) -}}
{{- end -}}
{{- with $ca.secret -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "" "secrets" (list .name) $read) -}}
{{- end -}}
{{- with $ca.configMap -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "" "configmaps" (list .name) $read) -}}
{{- end -}}
{{- include "seccomp-reconciler.rule" (list $create $lease.namespace "coordination.k8s.io" "leases" nil (list "create")) -}}
{{- include "seccomp-reconciler.rule" (list $named $lease.namespace "coordination.k8s.io" "leases" (list $lease.name) (list "get" "patch")) -}}
{{- with $settings.registration.backend.service -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "discovery.k8s.io" "endpointslices" nil (list "list" "watch")) -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "" "services" (list .name) (list "get")) -}}
{{- end -}}
{{- if $source.deployment -}}
{{- include "seccomp-reconciler.rule" (list $named $source.deployment.namespace "apps" "deployments" (list $source.deployment.name) $read) -}}
{{- include "seccomp-reconciler.rule" (list $named $source.deployment.namespace "" "configmaps" nil $read) -}}
{{- else -}}
{{- include "seccomp-reconciler.rule" (list $named "garden" "apps" "deployments" (list "gardenlet") (list "get")) -}}
{{- end -}}
{{- with $source.configMap -}}
{{- include "seccomp-reconciler.rule" (list $named .namespace "" "configmaps" (list .name) $read) -}}
{{- end -}}
{{- toYaml (dict "named" $named "create" $create) -}}
{{- end -}}

{{/* Adds a rule, in place: (list rules-by-namespace namespace group resource names verbs). */}}
{{- define "seccomp-reconciler.rule" -}}
{{- $rule := dict "apiGroups" (list (index . 2)) "resources" (list (index . 3)) "verbs" (index . 5) -}}
{{- with index . 4 }}{{ $_ := set $rule "resourceNames" . }}{{ end -}}
{{- $_ := set (index . 0) (index . 1) (append (get (index . 0) (index . 1) | default list) $rule) -}}
{{- end -}}

{{/* Subjects of the Job and the standalone reconciler; nothing where there is neither. */}}
{{- define "seccomp-reconciler.subjects" -}}
{{- if .Values.reconciler.enabled }}
- kind: ServiceAccount
  name: seccomp-reconciler
  namespace: {{ .Release.Namespace }}
{{- end }}
{{- if .Values.bootstrap.enabled }}
- kind: ServiceAccount
  name: seccomp-reconciler-bootstrap
  namespace: {{ .Release.Namespace }}
{{- end }}
{{- end -}}

{{/* gardenlet's ServiceAccount, whose pod has the sidecar. */}}
{{- define "seccomp-reconciler.gardenlet" -}}
{{- if .Values.sidecar.enabled }}
- kind: ServiceAccount
  name: {{ .Values.sidecar.serviceAccountName }}
  namespace: {{ .Release.Namespace }}
{{- end }}
{{- end -}}

{{/*
Name of a Role in a namespace of the settings: (list . name namespace). Gardener keys manifests by template file, kind and
name, so that outside the release's namespace (and for the cluster, where it is empty) the namespace is part of the name.
*/}}
{{- define "seccomp-reconciler.roleName" -}}
{{- index . 1 }}{{ if not (has (index . 2) (list "" (index . 0).Release.Namespace)) }}.{{ index . 2 }}{{ end -}}
{{- end -}}

{{/* A Role or ClusterRole and its binding: (list . name namespace rules subjects component); no namespace: for the cluster. */}}
{{- define "seccomp-reconciler.grant" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $namespace := index . 2 -}}
{{- $kind := ternary "Role" "ClusterRole" (ne $namespace "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "seccomp-reconciler.labels" (list $root (index . 5)) | nindent 4 }}
  {{- if gt (len .) 6 }}
  annotations:
    {{- index . 6 | nindent 4 }}
  {{- end }}
rules:
  {{- include "seccomp-reconciler.yaml" (index . 3) | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "seccomp-reconciler.labels" (list $root (index . 5)) | nindent 4 }}
  {{- if gt (len .) 6 }}
  annotations:
    {{- index . 6 | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name }}
subjects:
  {{- index . 4 | trim | nindent 2 }}
{{- end -}}
