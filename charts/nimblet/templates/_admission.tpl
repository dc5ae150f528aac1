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

{{/* CEL: whether what a runtime reads in the annotations of the first object stands in those of the second one too. */}}
{{- define "nimblet.admission.told" -}}
(!has({{ first . }}.metadata.annotations) || {{ first . }}.metadata.annotations.all(key, !['io.katacontainers', 'io.containerd', 'io.kubernetes'].exists(prefix, key.startsWith(prefix)) || (has({{ last . }}.metadata.annotations) && key in {{ last . }}.metadata.annotations && {{ last . }}.metadata.annotations[key] == {{ first . }}.metadata.annotations[key])))
{{- end }}

{{/* CEL: whether who asks is neither the operator nor a controller. */}}
{{- define "nimblet.admission.stranger" -}}
request.userInfo.username != 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "nimblet.name" . }}' && !request.userInfo.username.startsWith('system:serviceaccount:kube-system:') && !(request.userInfo.username in {{ toJson .Values.admission.controllers | replace "\"" "'" }})
{{- end }}

{{/* CEL: whether a volume of the pod holds the Secret that is the parameter, or has a CSI driver read it. */}}
{{- define "nimblet.admission.mounted" -}}
has(object.spec.volumes) && object.spec.volumes.exists(volume, (has(volume.secret) && volume.secret.secretName == params.metadata.name) || (has(volume.csi) && has(volume.csi.nodePublishSecretRef) && volume.csi.nodePublishSecretRef.name == params.metadata.name) || (has(volume.projected) && has(volume.projected.sources) && volume.projected.sources.exists(source, has(source.secret) && source.secret.name == params.metadata.name)))
{{- end }}

{{/* CEL: whether a container (variables.containers) has an entry of that Secret in its environment. */}}
{{- define "nimblet.admission.read" -}}
variables.containers.exists(container, (has(container.env) && container.env.exists(item, has(item.valueFrom) && has(item.valueFrom.secretKeyRef) && item.valueFrom.secretKeyRef.name == params.metadata.name)) || (has(container.envFrom) && container.envFrom.exists(source, has(source.secretRef) && source.secretRef.name == params.metadata.name)))
{{- end }}
