#!/usr/bin/env bash
# The whole way on a cluster: apply, train, verdict, answers, canary, promotion, rollback, accidents under load, upgrade.
# `make e2e` runs it against the kubeconfig's current context. It asks nothing of how the cluster came to be, never drains
# a node, and deletes only what it created. Every command has an end, and every row that does not hold names its log.
# DRY=1 prints the commands instead. docs/operations.md explains the variables. Needs bash 4.4 and GNU coreutils.
set -euo pipefail

KFP=${KFP:?KFP is not set. Name the KFP API server: make e2e KFP=http://127.0.0.1:8888 REGISTRY=registry.example.com/shop}
REGISTRY=${REGISTRY:?REGISTRY is not set. Name the registry that holds the images: make e2e REGISTRY=registry.example.com/shop}
OVERLAY=${OVERLAY:-k8s/overlays/demo}
NAMESPACE=${NAMESPACE:-kubeflow} # the one that the overlay names
TAG=${TAG:-0.1.0}
REPLICAS=${REPLICAS:-2}            # of serving; with one, an accident is an outage and only reported
READY_MINUTES=${READY_MINUTES:-10} # for a roll-out, with the first pull of the images
RUN_MINUTES=${RUN_MINUTES:-120}    # for the training pipeline
UPGRADE_TAG=${UPGRADE_TAG:-}       # another tag of the serving image; empty: no upgrade is tried
# More arguments for `recommender submit`. By default a challenger that is better than the first champion, the last
# baseline, so that there is a canary: on the default data this one is promoted.
SUBMIT_ARGS=${SUBMIT_ARGS---set as_of=2017-12-31 --set baselines=popularity,rate_rule --set challenger=logistic}
DELETE_DATA=${DELETE_DATA:-}       # 1: the volume claims that this run created are deleted too
DRY=${DRY:-}
OUT=${OUT:-build/e2e}              # in the repository, because kustomize takes relative paths only

FOLLOW_S=10                      # a change in the registry reaches every replica within this time
P99_MS=500                       # twice the gateway's deadline (serving.deadline_ms)
LIMIT_S=$((60 * READY_MINUTES + 60)) # for one command, whatever it waits for
SERVING=app.kubernetes.io/name=campaign-serving
CLIENT=campaign-e2e-client
GATEWAY=http://campaign-gateway

mkdir -p "$OUT" && rm -f "$OUT"/*.log "$OUT"/*.txt "$OUT"/table.tsv
: > "$OUT/created.txt"; printf 'what\tseen\tgoal\theld\n' > "$OUT/table.tsv"
# shellcheck source=tests/e2e_cluster/functions.sh
. "$(dirname "$0")/functions.sh"
trap finish EXIT

step "Look at the cluster and at KFP"
run kubectl version
run kubectl get nodes || true # a Profile's owner may not see them
run recommender schedules list --host "$KFP" --namespace "$NAMESPACE"
others > "$OUT/others-before.txt"
look_at_overlay

step "Secrets, where there are none"
for pair in campaign-gateway:token campaign-store:redis_password; do
  name=${pair%:*}
  if [ -n "$DRY" ] || ! kubectl -n "$NAMESPACE" get secret "$name" > /dev/null 2>&1; then
    k create secret generic "$name" --from-file="${pair#*:}=/dev/stdin" < <(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n') \
      || stop "No Secret can be made in $NAMESPACE. Is there such a namespace? In a full Kubeflow a Profile makes it: k8s/examples/profile.yaml"
    [ -n "$DRY" ] || echo "secret/$name" >> "$OUT/created.txt"
  fi
done

step "Apply $OVERLAY"
apply "$TAG" || stop "The overlay was not applied. If it says 'no matches for kind', install what docs/cluster/manifests.md says the component needs."
[ -n "$DRY" ] || grep -q '^statefulset.apps/campaign-store ' "$OUT/apply.log" || store=
ready statefulset/campaign-store
rolled_out=0; ready deploy/campaign-serving || rolled_out=$?
judge "serving is ready before there is a champion: exit code" "$rolled_out" 0 [ "$rolled_out" = 0 ]
[ "$failed" = 0 ] || exit 1

step "A client inside the cluster"
k delete pod "$CLIENT" --ignore-not-found --timeout 2m
pull_secrets=$(k get deploy/campaign-serving -o 'jsonpath={.spec.template.spec.imagePullSecrets}')
cat > "$OUT/client.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: $CLIENT
  labels: { campaigns/client: "true", campaigns/e2e: "true", sidecar.istio.io/inject: "false", istio.io/dataplane-mode: none }
spec:
  automountServiceAccountToken: false
  imagePullSecrets: ${pull_secrets:-[]}
  restartPolicy: Never
  securityContext: { runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: client
      image: $REGISTRY/campaign-recommender-serving:$TAG
      command: [sleep, "86400"]
      resources: { requests: { cpu: 50m, memory: 64Mi } }
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
      volumeMounts: [{ name: token, mountPath: /run/secrets/e2e, readOnly: true }]
  volumes: [{ name: token, secret: { secretName: campaign-gateway } }]
YAML
client=yes
k apply -f "$OUT/client.yaml"
k wait --for=condition=Ready "pod/$CLIENT" --timeout "${READY_MINUTES}m"
k exec -i "$CLIENT" -- sh -c 'cat > /tmp/client.py' < tests/e2e_cluster/client.py

step "Train, kill one training pod, wait for the verdict"
# shellcheck disable=SC2086  # SUBMIT_ARGS holds several words
background $((60 * RUN_MINUTES + 300)) "$OUT/submit.log" /dev/stderr recommender submit --host "$KFP" \
  --namespace "$NAMESPACE" --registry "$REGISTRY" --wait --timeout-minutes "$RUN_MINUTES" $SUBMIT_ARGS
log=submit.log victim=
until [ -n "$victim" ]; do
  victim=$(training_pod) || true
  quiet=1 # the same command again
  if [ -n "$DRY" ]; then victim=FIRST_TRAINING_POD; fi
  kill -0 "$started" 2> /dev/null || break
  [ -n "$victim" ] || pause 2
done
quiet=
[ -z "$victim" ] || k delete pod "$victim" --grace-period 0 --force --timeout 1m || victim=
verdict=0; wait "$started" || verdict=$?
cat "$OUT/submit.log"
judge "a training pod was killed meanwhile" "${victim:-none}" "one" [ -n "$victim" ]
judge "verdict: exit code of submit" "$verdict" "0 PROMOTE" [ "$verdict" = 0 ]
# With HOLD there is a champion but no canary. Without a verdict there is nothing to go on with.
if [ "$verdict" != 0 ] && [ "$verdict" != 3 ]; then exit 1; fi

step "A recommendation through the Service"
seconds=$(within 180 served)
judge "a served recommendation, seconds after the verdict" "$seconds" "<= 180" served
in_serving status
read -r _ _ _ champion canary < <(ask "$GATEWAY" 200) || true

step "Canary, promotion, rollback"
if [ "$verdict" = 0 ]; then
  seconds=$(within 60 canary_answers)
  judge "answers of the canary, after seconds" "$seconds" "<= 60" canary_answers
  read -r _ _ _ champion canary < <(ask "$GATEWAY" 200) || true
  in_serving promote --reason "make e2e"
  seconds=$(within $((2 * FOLLOW_S)) all_serve "${canary:-CANARY}")
  judge "promotion followed by every replica, seconds" "$seconds" "<= $FOLLOW_S" [ "$seconds" -le $FOLLOW_S ]
  in_serving rollback --reason "make e2e"
  seconds=$(within $((2 * FOLLOW_S)) all_serve "${champion:-CHAMPION}")
  judge "rollback followed by every replica, seconds" "$seconds" "<= $FOLLOW_S" [ "$seconds" -le $FOLLOW_S ]
fi

step "A rolling restart during 20 requests a second"
load restart 150
k rollout restart deploy/campaign-serving
ready deploy/campaign-serving
judge_load restart "failed requests in a rolling restart of $REPLICAS" 0 "$P99_MS"

step "Gateway, TorchServe and Redis killed, a pod deleted by force, during 20 requests a second for 110 s"
containers=$(k get deploy/campaign-serving -o 'jsonpath={.spec.template.spec.containers[*].name}')
load killed 110
pause 5; k exec "$(pod_of_serving)" -c gateway -- sh -c 'kill 1' || true
pause 25
if [ -n "$DRY" ] || [[ " $containers " == *" torchserve "* ]]; then k exec "$(pod_of_serving)" -c torchserve -- sh -c 'kill 1' || true
else row "TorchServe killed" "serving has no container torchserve: the overlay has another engine" - skipped; fi
pause 25
if [ -n "$store" ]; then k delete pod campaign-store-0 --grace-period 0 --force --timeout 1m
else row "Redis killed" "it is not ours: the overlay has the component external-redis" - skipped; fi
pause 25; k delete pod "$(pod_of_serving)" --grace-period 0 --force --timeout 1m
judge_load killed "failed requests while each kind of pod was killed" 10
ready statefulset/campaign-store
ready deploy/campaign-serving

step "One pod evicted during 20 requests a second"
load evicted 60
pause 5; victim=$(pod_of_serving)
printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"%s"}}' "$victim" "$NAMESPACE" > "$OUT/eviction.json"
# A Profile's owner lacks the right (`create` on `pods/eviction`), and a disruption budget may refuse.
run kubectl create --raw "/api/v1/namespaces/$NAMESPACE/pods/$victim/eviction" -f "$OUT/eviction.json" > /dev/null \
  || row "a pod was evicted" "refused: the command's own words stand above" evicted no
judge_load evicted "failed requests while a pod was evicted" 0
ready deploy/campaign-serving
seconds=$(within 120 served)
judge "served again after all of them, seconds" "$seconds" "<= 120" served

step "Upgrade to another tag during 20 requests a second"
if [ -n "$UPGRADE_TAG$DRY" ]; then
  load upgrade 150
  apply "${UPGRADE_TAG:-UPGRADE_TAG}"
  ready deploy/campaign-serving
  judge_load upgrade "failed requests in an upgrade" 0 "$P99_MS"
  seconds=$(within 120 served)
  judge "served by the other tag, seconds" "$seconds" "<= 120" served
else row "upgrade to another tag" "UPGRADE_TAG is not set" - skipped; fi

step "Other people's pods"
others > "$OUT/others-after.txt"
changed=$(grep -vxFf "$OUT/others-after.txt" "$OUT/others-before.txt" | tr '\n' ' ' || true)
judge "other pods of the namespace that restarted or went" "${changed:-none}" none [ -z "$changed" ]
