{{- define "headwater.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "headwater.labels" -}}
app.kubernetes.io/name: headwater
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The parts that there are, as JSON: where documents are local, gateway and projector are one. */}}
{{- define "headwater.parts" -}}
{{- $shared := eq .Values.documents.kind "shared" -}}
{{- $names := ternary (list "gateway" "command" "projector" "process") (list "reader" "command" "process") $shared -}}
{{- $parts := list -}}
{{- range $names -}}
{{- if (index $.Values.components .).enabled -}}{{- $parts = append $parts . -}}{{- end -}}
{{- end -}}
{{- toJson (dict "parts" $parts) -}}
{{- end -}}

{{- define "headwater.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Writes an object with what is laid over it. Takes a dict of root, part and yaml. */}}
{{- define "headwater.object" -}}
{{- $object := fromYaml .yaml -}}
{{- if hasKey $object "Error" -}}{{- fail (printf "%s: %s" .part $object.Error) -}}{{- end -}}
{{- $patch := index .root.Values.patches (printf "%s/%s" $object.kind .part) | default dict -}}
---
{{ toYaml (mergeOverwrite $object (deepCopy $patch)) }}
{{ end -}}

{{/* What every container of the program may: nothing. */}}
{{- define "headwater.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: ["ALL"]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "headwater.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* How the log is reached, as a seed's user: a dict of root and user. */}}
{{- define "headwater.natsEnv" -}}
- {name: HEADWATER_NATS, value: {{ .root.Values.nats.url | quote }}}
- {name: HEADWATER_LOG, value: {{ .root.Values.log | quote }}}
- {name: HEADWATER_LOG_FORMAT, value: json}
{{- if .root.Values.nats.seeds }}
- {name: HEADWATER_NATS_NKEY, value: /etc/headwater/nats/{{ .user }}.nk}
{{- end }}
{{- if .root.Values.nats.ca }}
- {name: HEADWATER_NATS_CA, value: /etc/headwater/ca/ca.crt}
{{- end }}
{{- end -}}

{{- define "headwater.natsMounts" -}}
{{- if .Values.nats.seeds }}
- {name: seeds, mountPath: /etc/headwater/nats, readOnly: true}
{{- end }}
{{- if .Values.nats.ca }}
- {name: ca, mountPath: /etc/headwater/ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* Of the seeds only the one that is needed. */}}
{{- define "headwater.natsVolumes" -}}
{{- if .root.Values.nats.seeds }}
- name: seeds
  secret: {secretName: {{ .root.Values.nats.seeds }}, defaultMode: 288, items: [{key: {{ .user }}.nk, path: {{ .user }}.nk}]}
{{- end }}
{{- if .root.Values.nats.ca }}
- name: ca
  secret: {secretName: {{ .root.Values.nats.ca }}, defaultMode: 288}
{{- end }}
{{- end -}}

{{/* The pod of a part: a dict of root and part. */}}
{{- define "headwater.pod" -}}
{{- $values := .root.Values -}}
{{- $part := .part -}}
{{- $component := index $values.components $part -}}
{{- $local := eq $part "reader" -}}
{{- $roles := ternary "gateway,projector" $part $local -}}
{{- $user := ternary "replica" $part $local -}}
{{- $documents := and (eq $values.documents.kind "shared") (has $part (list "gateway" "projector")) -}}
{{- $scheme := ternary "HTTPS" "HTTP" (not (empty $values.tls)) -}}
metadata:
  labels:
    {{- include "headwater.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ $part }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "headwater.name" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $values.drainSeconds $values.graceSeconds 5 }}
  securityContext: {{- include "headwater.podSecurity" .root | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "headwater.labels" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $part }}
    {{- end }}
  containers:
    - name: headwater
      image: {{ include "headwater.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        - serve
        {{- range $component.args }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- include "headwater.natsEnv" (dict "root" .root "user" $user) | nindent 8 }}
        - {name: HEADWATER_ROLES, value: {{ $roles | quote }}}
        - {name: HEADWATER_HTTP_ADDR, value: "0.0.0.0:8080"}
        - {name: HEADWATER_ADMIN_ADDR, value: "0.0.0.0:8081"}
        - {name: HEADWATER_DATA_DIR, value: /var/lib/headwater}
        - {name: HEADWATER_SECRET_FILE, value: /etc/headwater/secret/secret}
        - {name: HEADWATER_STREAM_REPLICAS, value: {{ $values.nats.replicas | quote }}}
        - {name: HEADWATER_DRAIN_DELAY_SECONDS, value: {{ $values.drainSeconds | quote }}}
        - {name: HEADWATER_GRACE_SECONDS, value: {{ $values.graceSeconds | quote }}}
        {{- if $documents }}
        - {name: HEADWATER_SURREAL, value: {{ $values.documents.url | quote }}}
        - {name: HEADWATER_SURREAL_USER, value: {{ $values.documents.user | quote }}}
        - name: HEADWATER_SURREAL_PASSWORD
          valueFrom: {secretKeyRef: {name: {{ $values.documents.password }}, key: password}}
        {{- end }}
        {{- if $values.auth.insecure }}
        - {name: HEADWATER_INSECURE, value: "true"}
        {{- else }}
        - {name: HEADWATER_AUTH_JWKS, value: {{ required "auth.jwks: who may do what? Or say auth.insecure" $values.auth.jwks | quote }}}
        {{- with $values.auth.issuer }}
        - {name: HEADWATER_AUTH_ISSUER, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.auth.audience }}
        - {name: HEADWATER_AUTH_AUDIENCE, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.auth.anonymousScopes }}
        - {name: HEADWATER_ANONYMOUS_SCOPES, value: {{ . | quote }}}
        {{- end }}
        {{- end }}
        {{- with $values.otlp }}
        - {name: HEADWATER_OTLP_ENDPOINT, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.allowOrigin }}
        - {name: HEADWATER_ALLOW_ORIGIN, value: {{ . | quote }}}
        {{- end }}
        {{- if $values.tls }}
        - {name: HEADWATER_TLS_CERT, value: /etc/headwater/tls/tls.crt}
        - {name: HEADWATER_TLS_KEY, value: /etc/headwater/tls/tls.key}
        {{- end }}
      ports:
        - {name: http, containerPort: 8080}
        - {name: admin, containerPort: 8081}
      # It is alive from the moment in which it has its port; it is ready when it can do its work.
      startupProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      resources: {{- toYaml $component.resources | nindent 8 }}
      securityContext: {{- include "headwater.confined" .root | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/headwater}
        - {name: tmp, mountPath: /tmp}
        - {name: secret, mountPath: /etc/headwater/secret, readOnly: true}
        {{- include "headwater.natsMounts" .root | nindent 8 }}
        {{- if $values.tls }}
        - {name: tls, mountPath: /etc/headwater/tls, readOnly: true}
        {{- end }}
  volumes:
    {{- if not $local }}
    - {name: data, emptyDir: {}}
    {{- end }}
    - {name: tmp, emptyDir: {}}
    - name: secret
      secret: {secretName: {{ $values.secret }}, defaultMode: 288}
    {{- include "headwater.natsVolumes" (dict "root" .root "user" $user) | nindent 4 }}
    {{- if $values.tls }}
    - name: tls
      secret: {secretName: {{ $values.tls }}, defaultMode: 288}
    {{- end }}
{{- end -}}
