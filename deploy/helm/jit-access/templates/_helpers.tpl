{{- define "jit.name" -}}{{ printf "%s-jit-access" .Release.Name | trunc 52 | trimSuffix "-" }}{{- end }}
{{- define "jit.selector" -}}
app.kubernetes.io/name: jit-access
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "jit.labels" -}}
{{ include "jit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "jit.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}
{{- define "jit.pod" -}}
automountServiceAccountToken: false
serviceAccountName: {{ include "jit.name" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- define "jit.container" -}}
image: {{ include "jit.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
{{- define "jit.environment" -}}
- {name: JIT_GRPC, value: "127.0.0.1:8081"}
- {name: JIT_KEY_FILE, value: /run/secrets/sealing-key/sealing.key}
- {name: JIT_ISSUERS_FILE, value: /etc/jit/issuers.yaml}
{{- if .Values.receivers }}
- {name: JIT_NOTIFICATIONS_FILE, value: /etc/jit/receivers.yaml}
{{- end }}
{{- if .Values.policies }}
- {name: JIT_POLICIES, value: /etc/jit/policies.yaml}
{{- end }}
- {name: JIT_DRAIN_DELAY, value: "{{ .Values.drainSeconds }}s"}
- {name: JIT_TRUSTED_PROXIES, value: "127.0.0.1/32"}
- {name: JIT_METRICS, value: "0.0.0.0:9464"}
- {name: JIT_INSECURE_LISTEN, value: "true"} # gRPC is on loopback; of the metrics' port the NetworkPolicy says who reaches it.
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- define "jit.mounts" -}}
- {name: data, mountPath: /var/lib/jit}
- {name: tmp, mountPath: /tmp}
- {name: configuration, mountPath: /etc/jit, readOnly: true}
- {name: sealing-key, mountPath: /run/secrets/sealing-key, readOnly: true}
{{- range .Values.secrets }}
- {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
{{- end }}
{{- end }}
