{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* One name for everything of the operator: two releases would fight over the same models. */}}
{{- define "nimblet.name" -}}nimblet-operator{{- end }}

{{- define "nimblet.selector" -}}
app.kubernetes.io/name: nimblet-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "nimblet.labels" -}}
{{ include "nimblet.selector" . }}
app.kubernetes.io/part-of: nimblet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The administrator's settings, as nimblet.settings.Settings reads them. */}}
{{- define "nimblet.settings" -}}
{{- if eq .Values.tls.mode "CertManager" }}{{ $_ := required "tls.mode CertManager needs tls.issuer.name" .Values.tls.issuer.name }}{{ end -}}
{{- $access := dict "operatorNamespace" .Release.Namespace "metricsNamespaces" .Values.metrics.namespaces -}}
{{- $settings := pick .Values "images" "fetch" "timing" "watchNamespaces" "extraArchitectures" "ociImageVolumes" "promptCacheMebibytes" "tracing" "tls" "hardware" -}}
{{- set $settings "access" $access | toPrettyJson -}}
{{- end }}

{{- define "nimblet.subject" -}}
- kind: ServiceAccount
  name: {{ include "nimblet.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* Pod Security "restricted", and no write to the image. */}}
{{- define "nimblet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "nimblet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
