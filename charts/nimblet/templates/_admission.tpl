{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Parts of the ValidatingAdmissionPolicies. */}}

{{- define "nimblet.admission.name" -}}{{ include "nimblet.name" . }}-{{ .Release.Namespace }}{{- end }}

{{/* Only the namespaces that an administrator opted in, and that this release serves. */}}
{{- define "nimblet.admission.match" -}}
namespaceSelector:
  matchLabels:
    {{ .Values.admission.namespaceLabel }}: enforced
  {{- with .Values.watchNamespaces }}
  matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
  {{- end }}
{{- end }}

{{/* CEL: whether the labels of an object's metadata (the argument) name a resource of ours. */}}
{{- define "nimblet.admission.bears" -}}
(has({{ . }}.labels) && ('nimblet.dev/model' in {{ . }}.labels || 'nimblet.dev/index' in {{ . }}.labels || 'nimblet.dev/assistant' in {{ . }}.labels))
{{- end }}

{{/* CEL: whether an object, or the pods that come of it, bear a label of ours. */}}
{{- define "nimblet.admission.makes" -}}
{{ include "nimblet.admission.bears" (printf "%s.metadata" .) }} || (has({{ . }}.spec.template) && has({{ . }}.spec.template.metadata) && {{ include "nimblet.admission.bears" (printf "%s.spec.template.metadata" .) }}) || (has({{ . }}.spec.jobTemplate) && ((has({{ . }}.spec.jobTemplate.metadata) && {{ include "nimblet.admission.bears" (printf "%s.spec.jobTemplate.metadata" .) }}) || (has({{ . }}.spec.jobTemplate.spec.template.metadata) && {{ include "nimblet.admission.bears" (printf "%s.spec.jobTemplate.spec.template.metadata" .) }})))
{{- end }}

{{/* CEL: whether who asks is neither the operator nor a controller. */}}
{{- define "nimblet.admission.stranger" -}}
request.userInfo.username != 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "nimblet.name" . }}' && !request.userInfo.username.startsWith('system:serviceaccount:kube-system:') && !(request.userInfo.username in {{ toJson .Values.admission.controllers | replace "\"" "'" }})
{{- end }}
