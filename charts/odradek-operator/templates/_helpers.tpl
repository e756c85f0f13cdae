{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* Labels of every object. */}}
{{- define "odradek-operator.labels" -}}
app.kubernetes.io/name: odradek-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: odradek
{{- end }}

{{/* Labels that find the pods; a Deployment's selector can never change. */}}
{{- define "odradek-operator.selector" -}}
app.kubernetes.io/name: odradek-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* An image with its registry. */}}
{{- define "odradek-operator.image" -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- end }}

{{/* What the operator may do where Clusters and Topics are: the same in a ClusterRole and a Role. */}}
{{- define "odradek-operator.rules" -}}
- apiGroups: [odradek.dev]
  resources: [clusters, topics]
  verbs: [get, list, watch, patch]
- apiGroups: [odradek.dev]
  resources: [clusters/status, topics/status]
  verbs: [patch]
- apiGroups: [odradek.dev]
  resources: [clusters/finalizers, topics/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
