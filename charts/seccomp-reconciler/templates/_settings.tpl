{{/*
ReconcilerConfiguration as YAML: the value `settings` over what the chart knows, which is the namespace, every name that
a Role or a volume holds, and where the GardenletConfiguration is.
*/}}
{{- define "seccomp-reconciler.settings" -}}
{{- $namespace := .Release.Namespace -}}
{{- $chosen := dict -}}
{{- include "seccomp-reconciler.overlay" (list $chosen .Values.settings) -}}
{{- $registration := dict -}}
{{- include "seccomp-reconciler.overlay" (list $registration $chosen.registration) -}}
{{- $ca := dict "selfSigned" (dict) -}}
{{- $backend := dict "service" (dict) -}}
{{- $source := dict "deployment" (dict) -}}
{{- if .Values.gardenletDocument -}}
{{- $source = dict "file" "/etc/gardenlet/config/config.yaml" -}}
{{- end -}}
{{- if $registration.ca }}{{ $ca = $registration.ca }}{{ end -}}
{{- if $registration.backend }}{{ $backend = $registration.backend }}{{ end -}}
{{- if $chosen.gardenletConfiguration }}{{ $source = $chosen.gardenletConfiguration }}{{ end -}}
{{- $names := dict
    "selfSigned" (dict "namespace" $namespace "authoritySecret" "seccomp-reconciler-ca" "servingSecret" "seccomp-reconciler-tls")
    "secret" (dict "namespace" $namespace "name" "seccomp-reconciler-tls")
    "configMap" (dict "namespace" $namespace)
    "service" (dict "namespace" $namespace "name" "seccomp-reconciler" "port" 443)
    "deployment" (dict "namespace" $namespace "name" "gardenlet") -}}
{{- range $group := list $ca $backend $source -}}
{{- range $kind := list "selfSigned" "secret" "configMap" "service" "deployment" -}}
{{- if hasKey $group $kind -}}
{{- $known := deepCopy (get $names $kind) -}}
{{- include "seccomp-reconciler.overlay" (list $known (get $group $kind)) -}}
{{- $_ := set $group $kind $known -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $ca.configMap (not $ca.configMap.name) -}}
{{- $_ := set $ca.configMap "name" "seccomp-reconciler-tls" -}}
{{- end -}}
{{- $_ := set $registration "ca" $ca -}}
{{- $_ := set $registration "backend" $backend -}}
{{- $_ := set $chosen "registration" $registration -}}
{{- $_ := set $chosen "gardenletConfiguration" $source -}}
{{- $known := dict
    "apiVersion" "seccomp-reconciler.config.gardener.cloud/v1alpha1"
    "kind" "ReconcilerConfiguration"
    "registration" (dict
      "name" "seccomp-reconciler"
      "twinName" "gardener-resource-manager"
      "ownerClusterRole" (ternary "" "seccomp-reconciler-create" (empty (include "seccomp-reconciler.subjects" .)))
      "skipLabel" "seccompprofile.resources.gardener.cloud/skip"
      "ownAppName" "seccomp-reconciler")
    "proof" (dict "namespace" "seccomp-canary")
    "leaderElection" (dict "namespace" $namespace "name" "seccomp-reconciler") -}}
{{- include "seccomp-reconciler.overlay" (list $known $chosen) -}}
{{- include "seccomp-reconciler.yaml" $known -}}
{{- end -}}

{{/*
Lays the second map over the first, in place. Null takes nothing away and gives nothing; unlike mergeOverwrite, false,
0 and "" count.
*/}}
{{- define "seccomp-reconciler.overlay" -}}
{{- $base := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- if not (kindIs "map" (get $base $key)) }}{{ $_ := set $base $key dict }}{{ end -}}
{{- include "seccomp-reconciler.overlay" (list (get $base $key) $value) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
A value as YAML. Helm reads each number of a values file as a floating-point number, and would write a million as 1e+06.
*/}}
{{- define "seccomp-reconciler.yaml" -}}
{{- $box := dict "value" . -}}
{{- include "seccomp-reconciler.integers" $box -}}
{{- toYaml $box.value -}}
{{- end -}}

{{/* Makes integers of the whole numbers in a map, in place: as deep as maps and lists go. */}}
{{- define "seccomp-reconciler.integers" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "map" $value -}}
{{- include "seccomp-reconciler.integers" $value -}}
{{- else if kindIs "slice" $value -}}
{{- $items := list -}}
{{- range $item := $value -}}
{{- $box := dict "item" $item -}}
{{- include "seccomp-reconciler.integers" $box -}}
{{- $items = append $items $box.item -}}
{{- end -}}
{{- $_ := set $map $key $items -}}
{{- else if kindIs "float64" $value -}}
{{- if eq (floor $value) $value }}{{ $_ := set $map $key (int64 $value) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of the Secret that the server mounts. */}}
{{- define "seccomp-reconciler.tlsSecretName" -}}
{{- $ca := (fromYaml (include "seccomp-reconciler.settings" .)).registration.ca -}}
{{- $named := "seccomp-reconciler-tls" -}}
{{- if $ca.selfSigned }}{{ $named = $ca.selfSigned.servingSecret }}{{ else if $ca.secret }}{{ $named = $ca.secret.name }}{{ end -}}
{{- .Values.server.tlsSecretName | default $named -}}
{{- end -}}
