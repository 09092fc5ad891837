#!/usr/bin/env bash
# The whole way on a cluster: apply, train, verdict, answers, canary, promotion, rollback, accidents under load, upgrade.
# `make e2e` runs it against the kubeconfig's current context. It asks nothing of how the cluster came to be, never drains
# a node, and deletes only what it created. DRY=1 prints the commands instead. docs/operations.md explains the variables.
set -euo pipefail

KFP=${KFP:?KFP is not set. Name the KFP API server: make e2e KFP=http://127.0.0.1:8888 REGISTRY=registry.example.com/shop}
REGISTRY=${REGISTRY:?REGISTRY is not set. Name the registry that holds the images: make e2e REGISTRY=registry.example.com/shop}
OVERLAY=${OVERLAY:-k8s/overlays/demo}
NAMESPACE=${NAMESPACE:-kubeflow} # the one that the overlay names
TAG=${TAG:-0.1.0}
REPLICAS=${REPLICAS:-2}          # of serving; with one, an accident is an outage and only reported
UPGRADE_TAG=${UPGRADE_TAG:-}     # another tag of the serving image; empty: no upgrade is tried
# More arguments for `recommender submit`. By default a challenger that is better than the first champion, the last
# baseline, so that there is a canary: on the default data this one is promoted.
SUBMIT_ARGS=${SUBMIT_ARGS---set as_of=2017-12-31 --set baselines=popularity,rate_rule --set challenger=logistic}
DELETE_DATA=${DELETE_DATA:-}     # 1: the volume claims that this run created are deleted too
DRY=${DRY:-}
OUT=${OUT:-build/e2e}            # in the repository, because kustomize takes relative paths only

FOLLOW_S=10                      # a change in the registry reaches every replica within this time
P99_MS=500                       # twice the gateway's deadline (serving.deadline_ms)
SERVING=app.kubernetes.io/name=campaign-serving
CLIENT=campaign-e2e-client
GATEWAY=http://campaign-gateway

mkdir -p "$OUT" && rm -f "$OUT"/*.log "$OUT"/*.txt "$OUT"/table.tsv
: > "$OUT/created.txt"; printf 'what\tseen\tgoal\theld\n' > "$OUT/table.tsv"
failed=0

step() { printf '\n== %s\n' "$*"; }
run() { printf '+ %s\n' "$*" >&2; [ -n "$DRY" ] || "$@"; }
k() { run kubectl -n "$NAMESPACE" "$@"; }
pause() { [ -n "$DRY" ] || sleep "$1"; }

# --- the table: what was seen, what should have been, and whether it held -------------------------------------------
row() { printf '%s\t%s\t%s\t%s\n' "$@" >> "$OUT/table.tsv"; [ "$4" != no ] || failed=1; }
judge() { # WHAT SEEN GOAL COMMAND…: it held if the command holds
  local what=$1 seen=$2 goal=$3; shift 3
  if [ -n "$DRY" ]; then row "$what" - "$goal" "dry run"
  elif "$@"; then row "$what" "$seen" "$goal" yes
  else row "$what" "$seen" "$goal" no; fi
}
within() { # SECONDS COMMAND…: repeat it until it holds, and print the seconds that it took
  local limit=$1 began=$SECONDS; shift
  until "$@" >&2; do
    if [ -n "$DRY" ] || [ $((SECONDS - began)) -ge "$limit" ]; then break; fi
    sleep 0.5
  done
  echo $((SECONDS - began))
}

# --- what is asked of the cluster -----------------------------------------------------------------------------------
ask() { k exec "$CLIENT" -- python /tmp/client.py ask "$@"; } # URL COUNT
served() { local ok full; read -r ok full _ < <(ask "$GATEWAY" 20) && [ "$ok" = 20 ] && [ "$full" -gt 0 ]; }
canary_answers() { local canary; read -r _ _ canary _ < <(ask "$GATEWAY" 200) && [ "$canary" -gt 0 ]; }
addresses() { k get pods -l "$SERVING" --field-selector status.phase=Running -o 'jsonpath={.items[*].status.podIP}'; }
all_serve() { # VERSION: every replica answers with it as champion, and has no canary
  local ip canary version ips
  ips=$(addresses)
  [ -z "$DRY" ] || ips=EACH_POD
  [ -n "$ips" ] || return 1
  for ip in $ips; do
    read -r _ _ canary version _ < <(ask "http://$ip:8000" 40) || return 1
    [ "$canary" = 0 ] && [ "$version" = "$1" ] || return 1
  done
}
pod_of_serving() { k get pods -l "$SERVING" --field-selector status.phase=Running -o 'jsonpath={.items[0].metadata.name}'; }
# Name, start of the step's own container if it runs, and the step: KFP's pod names do not tell it, Argo's node names do.
STEP_POD='{.metadata.name} {.status.containerStatuses[?(@.name=="main")].state.running.startedAt} {.metadata.annotations.workflows\.argoproj\.io/node-name}{"\n"}'
training_pod() { # one that trains now: of one that has ended, a pod can still be Running while Argo saves its outputs
  k get pods -l campaign-recommender/step=true --field-selector status.phase=Running \
    -o "jsonpath={range .items[*]}$STEP_POD{end}" | awk 'NF == 3 && $3 ~ /train-ranker/ { print $1; exit }'
}
others() { # pods of other people: name and restarts
  k get pods -l 'app.kubernetes.io/part-of!=campaign-recommender,!pipeline/runid,!campaigns/e2e' \
    -o 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{"\n"}{end}'
}
in_serving() { k exec deploy/campaign-serving -c deployer -- recommender "$@"; }
apply() { # TAG
  cat > "$OUT/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$(realpath --relative-to "$OUT" "$OVERLAY")]
images:
  - { name: registry.example.com/campaign-recommender-serving, newName: $REGISTRY/campaign-recommender-serving, newTag: "$1" }
  - { name: $REGISTRY/campaign-recommender-serving, newTag: "$1" } # the overlay names the registry already
replicas:
  - { name: campaign-serving, count: $REPLICAS }
YAML
  run kubectl apply -k "$OUT"
}
load() { # NAME SECONDS
  local command=(kubectl -n "$NAMESPACE" exec "$CLIENT" -- python /tmp/client.py load "$GATEWAY" 20 "$2")
  printf '+ %s &\n' "${command[*]}" >&2
  [ -n "$DRY" ] || "${command[@]}" > "$OUT/$1.txt" 2> "$OUT/$1.log"
}
judge_load() { # NAME WHAT MOST [MOST_MS]
  local bad=all requests=0 p99=0
  [ -n "$DRY" ] || read -r bad requests p99 < "$OUT/$1.txt" || true
  if [ "$REPLICAS" -lt 2 ]; then row "$2" "$bad of $requests: one replica is away meanwhile" - skipped; return; fi
  judge "$2" "$bad of $requests" "<= $3" [ "$bad" -le "$3" ]
  [ -z "${4:-}" ] || judge "  and their p99, ms" "$p99" "<= $4" [ "$p99" -le "$4" ]
}

# --- the end, whatever happens --------------------------------------------------------------------------------------
keep_logs() {
  local pod name
  kubectl -n "$NAMESPACE" get pods,events -o wide > "$OUT/cluster.log" 2>&1 || true
  for pod in $(for label in app.kubernetes.io/part-of=campaign-recommender campaign-recommender/step=true; do
    kubectl -n "$NAMESPACE" get pods -l "$label" -o name
  done); do
    name=${pod##*/}
    kubectl -n "$NAMESPACE" describe "$pod" > "$OUT/$name.describe.log" 2>&1 || true
    kubectl -n "$NAMESPACE" logs "$pod" --all-containers --prefix --tail 500 > "$OUT/$name.log" 2>&1 || true
    kubectl -n "$NAMESPACE" logs "$pod" --all-containers --prefix --tail 500 --previous > "$OUT/$name.previous.log" 2>&1 || true
  done
}
finish() {
  local code=$? what
  trap - EXIT
  set +e
  [ "$code" = 0 ] || row "the script itself" "stopped with exit code $code" "its end" no
  [ "$failed" = 0 ] || [ -n "$DRY" ] || keep_logs
  step "Delete what this run created"
  k delete pod "$CLIENT" --ignore-not-found --wait=false
  while read -r what; do
    case $what in persistentvolumeclaim/*) [ -n "$DELETE_DATA" ] || continue ;; esac
    # Without waiting: a claim goes when the pods that use it have gone.
    k delete "$what" --ignore-not-found --wait=false
    # The controller makes the store's claim, so it is ours if the StatefulSet is.
    if [ "$what" = statefulset.apps/campaign-store ] && [ -n "$DELETE_DATA" ]; then k delete pvc data-campaign-store-0 --wait=false; fi
  done < <(tac "$OUT/created.txt")
  printf '\n'
  # Columns as wide as their longest cell; a bare machine has awk and no `column`.
  awk -F '\t' 'NR == FNR { for (i = 1; i < NF; i++) if (length($i) > wide[i]) wide[i] = length($i); next }
    { for (i = 1; i < NF; i++) printf "%-" wide[i] + 2 "s", $i; print $NF }' "$OUT/table.tsv" "$OUT/table.tsv"
  [ "$failed" = 0 ] || printf '\nNot everything held. Logs: %s\n' "$OUT"
  exit "$failed"
}
trap finish EXIT

step "Look at the cluster and at KFP"
run kubectl version
run kubectl get nodes
run recommender schedules list --host "$KFP" --namespace "$NAMESPACE"
others > "$OUT/others-before.txt"

step "Secrets, where there are none"
for pair in campaign-gateway:token campaign-store:redis_password; do
  name=${pair%:*}
  if [ -n "$DRY" ] || ! kubectl -n "$NAMESPACE" get secret "$name" > /dev/null 2>&1; then
    k create secret generic "$name" --from-file="${pair#*:}=/dev/stdin" < <(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    [ -n "$DRY" ] || echo "secret/$name" >> "$OUT/created.txt"
  fi
done

step "Apply $OVERLAY"
apply "$TAG" | tee "$OUT/apply.log"
awk '$NF == "created" { print $1 }' "$OUT/apply.log" >> "$OUT/created.txt"
k rollout status statefulset/campaign-store --timeout 5m
judge "serving is ready before there is a champion" "see the log" ready k rollout status deploy/campaign-serving --timeout 5m

step "A client inside the cluster"
k delete pod "$CLIENT" --ignore-not-found
cat > "$OUT/client.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: $CLIENT
  labels: { campaigns/client: "true", campaigns/e2e: "true", sidecar.istio.io/inject: "false" }
spec:
  automountServiceAccountToken: false
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
k apply -f "$OUT/client.yaml"
k wait --for=condition=Ready "pod/$CLIENT" --timeout 5m
k exec -i "$CLIENT" -- sh -c 'cat > /tmp/client.py' < tests/e2e_cluster/client.py

step "Train, kill one training pod, wait for the verdict"
# shellcheck disable=SC2086  # SUBMIT_ARGS holds several words
run recommender submit --host "$KFP" --namespace "$NAMESPACE" --registry "$REGISTRY" --wait $SUBMIT_ARGS > "$OUT/submit.log" &
submitted=$!
victim=
until [ -n "$victim" ]; do
  victim=$(training_pod) || true
  if [ -n "$DRY" ]; then victim=FIRST_TRAINING_POD; fi
  kill -0 "$submitted" 2> /dev/null || break
  [ -n "$victim" ] || pause 2
done
[ -z "$victim" ] || k delete pod "$victim" --grace-period 0 --force || victim=
verdict=0; wait "$submitted" || verdict=$?
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
load restart 150 & loading=$!
k rollout restart deploy/campaign-serving
k rollout status deploy/campaign-serving --timeout 5m
wait "$loading" || true
judge_load restart "failed requests in a rolling restart of $REPLICAS" 0 "$P99_MS"

step "Gateway, TorchServe and Redis killed, a pod deleted by force, during 20 requests a second for 110 s"
containers=$(k get deploy/campaign-serving -o 'jsonpath={.spec.template.spec.containers[*].name}')
load killed 110 & loading=$!
pause 5; k exec "$(pod_of_serving)" -c gateway -- sh -c 'kill 1' || true
pause 25
if [ -n "$DRY" ] || [[ " $containers " == *" torchserve "* ]]; then k exec "$(pod_of_serving)" -c torchserve -- sh -c 'kill 1' || true
else row "TorchServe killed" "serving has no container torchserve: the overlay has another engine" - skipped; fi
pause 25; k delete pod campaign-store-0 --grace-period 0 --force
pause 25; k delete pod "$(pod_of_serving)" --grace-period 0 --force
wait "$loading" || true
judge_load killed "failed requests while each kind of pod was killed" 10
k rollout status statefulset/campaign-store --timeout 5m
k rollout status deploy/campaign-serving --timeout 5m

step "One pod evicted during 20 requests a second"
load evicted 60 & loading=$!
pause 5; victim=$(pod_of_serving)
printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"%s"}}' "$victim" "$NAMESPACE" > "$OUT/eviction.json"
run kubectl create --raw "/api/v1/namespaces/$NAMESPACE/pods/$victim/eviction" -f "$OUT/eviction.json"
wait "$loading" || true
judge_load evicted "failed requests while a pod was evicted" 0
k rollout status deploy/campaign-serving --timeout 5m
seconds=$(within 120 served)
judge "served again after all of them, seconds" "$seconds" "<= 120" served

step "Upgrade to another tag during 20 requests a second"
if [ -n "$UPGRADE_TAG$DRY" ]; then
  load upgrade 150 & loading=$!
  apply "${UPGRADE_TAG:-UPGRADE_TAG}"
  k rollout status deploy/campaign-serving --timeout 5m
  wait "$loading" || true
  judge_load upgrade "failed requests in an upgrade" 0 "$P99_MS"
  seconds=$(within 120 served)
  judge "served by the other tag, seconds" "$seconds" "<= 120" served
else row "upgrade to another tag" "UPGRADE_TAG is not set" - skipped; fi

step "Other people's pods"
others > "$OUT/others-after.txt"
changed=$(grep -vxFf "$OUT/others-after.txt" "$OUT/others-before.txt" || true)
judge "other pods of the namespace that restarted or went" "${changed:-none}" none [ -z "$changed" ]
