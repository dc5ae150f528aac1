{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* What the operator may do; a contract test holds these rules equal to operator/nimblet/cluster/permissions.py. */}}

{{/* In every served namespace. */}}
{{- define "nimblet.rules.served" -}}
- apiGroups: [nimblet.dev]
  resources: [assistants, compactmodels, retrievalindexes]
  verbs: [get, list, watch]
- apiGroups: [nimblet.dev]
  resources: [assistants/status, compactmodels/status, retrievalindexes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create]
{{- if .Values.tls.issuer.name }}
- {apiGroups: [cert-manager.io], resources: [certificates], verbs: [get, list, create, patch, delete]}
{{- end }}
{{- end }}

{{/* Cluster-wide, in the namespaced mode too: reading what placement and caches need. */}}
{{- define "nimblet.rules.cluster" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
- apiGroups: [nimblet.dev]
  resources: [teepolicies]
  verbs: [list, watch]
- apiGroups: [node.k8s.io]
  resources: [runtimeclasses]
  verbs: [list]
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [list]
{{- end }}

{{/* In the operator's own namespace: leadership; master key and authority, made once (RBAC can't limit create to a name). */}}
{{- define "nimblet.rules.own" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [nimblet-master-key]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [nimblet-ca]
  verbs: [get, update]
{{- end }}
