# shellcheck shell=bash disable=SC2034,SC2154  # variables are those of run.sh
# What run.sh does with its table, its logs and the cluster. It sources this file.

failed=0    # 1: a row did not hold
log=        # where the reason of the next row that does not hold stands, in $OUT
quiet=      # 1: commands are not printed, because the same ones were
store=yes   # empty: the overlay has no Redis of its own
client=     # 1: the client's pod was made
started=    # process of the last command in the background

step() { printf '\n== %s\n' "$*"; log=cluster.log; }
run() { # COMMAND…: print it and run it, LIMIT_S at most
  local code=0
  [ -n "$quiet" ] || printf '+ %s\n' "$*" >&2
  [ -n "$DRY" ] || timeout --foreground "$LIMIT_S" "$@" || code=$?
  [ "$code" != 124 ] || printf 'Stopped after %s s without an end: %s\n' "$LIMIT_S" "$*" >&2
  return "$code"
}
k() { run kubectl -n "$NAMESPACE" "$@"; }
pause() { [ -n "$DRY" ] || sleep "$1"; }
stop() { printf '%s\n' "$*" >&2; exit 1; } # a sentence that says what to do

# --- the table: what was seen, what should have been, and whether it held -------------------------------------------
row() { # WHAT SEEN GOAL HELD
  local held=$4
  if [ "$held" = no ]; then held="no: $OUT/$log" failed=1; fi
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$held" >> "$OUT/table.tsv"
}
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
    quiet=1 # the same commands again
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
pod_of_serving() {
  k get pods -l "$SERVING" --field-selector status.phase=Running -o 'jsonpath={.items[0].metadata.name}'
  [ -z "$DRY" ] || echo ONE_POD
}
# Name, and why it waits: the scheduler's words, and the node's.
WAITING='{.metadata.name}{" "}{.status.conditions[?(@.reason=="Unschedulable")].message}{" "}{.status.containerStatuses[*].state.waiting.reason}{" "}{.status.containerStatuses[*].state.waiting.message}{"\n"}'
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
  local code=0
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
  run kubectl apply -k "$OUT" | tee "$OUT/apply.log" || code=$?
  # Also of an apply that was refused half-way.
  awk '$NF == "created" { print $1 }' "$OUT/apply.log" >> "$OUT/created.txt"
  return "$code"
}
ready() { # deploy/campaign-serving or statefulset/campaign-store, which the component external-redis takes away
  [ "$1" != statefulset/campaign-store ] || [ -n "$store" ] || return 0
  k rollout status "$1" --timeout "${READY_MINUTES}m" || { why_waiting; return 1; }
}
why_waiting() { # of each pod of ours that does not run: the scheduler's and the node's reason, and what to do
  local reasons
  reasons=$(k get pods -l app.kubernetes.io/part-of=campaign-recommender -o "jsonpath={range .items[*]}$WAITING{end}" | awk 'NF > 1') || true
  [ -z "$reasons" ] || printf '%s\n' "$reasons" >&2
  case $reasons in
    *ImagePull* | *ErrImage*) printf 'Push %s/campaign-recommender-serving:%s, load it into the node, or add the component pull-secrets.\n' "$REGISTRY" "$TAG" ;;
    *Insufficient*) printf 'Give the cluster room, or set REPLICAS=1.\n' ;;
    *unbound* | *persistentvolumeclaim*) printf 'Name a storage class that the cluster has in k8s/base/names.yaml (volumes).\n' ;;
    *) return 0 ;;
  esac >&2
}
background() { # SECONDS OUTPUT ERRORS COMMAND…: start it, and set `started`. It is no function, so that `finish` can end it
  local limit=$1 output=$2 errors=$3; shift 3
  printf '+ %s &\n' "$*" >&2
  if [ -n "$DRY" ]; then : > "$output" & else timeout "$limit" "$@" > "$output" 2> "$errors" & fi
  started=$!
}
load() { # NAME SECONDS: 20 requests a second. Where answers take seconds the client takes longer than asked.
  background $(($2 + 120)) "$OUT/$1.txt" "$OUT/$1.log" \
    kubectl -n "$NAMESPACE" exec "$CLIENT" -- python /tmp/client.py load "$GATEWAY" 20 "$2"
}
judge_load() { # NAME WHAT MOST [MOST_MS]: once the load has ended
  local bad requests p99
  wait "$started" || true
  log=$1.log
  if [ -n "$DRY" ]; then bad=0 requests=0 p99=0
  elif ! read -r bad requests p99 < "$OUT/$1.txt"; then row "$2" "the client did not end" "<= $3" no; return; fi
  if [ "$REPLICAS" -lt 2 ]; then row "$2" "$bad of $requests: one replica is away meanwhile" - skipped; return; fi
  judge "$2" "$bad of $requests" "<= $3" [ "$bad" -le "$3" ]
  [ -z "${4:-}" ] || judge "  and their p99, ms" "$p99" "<= $4" [ "$p99" -le "$4" ]
}

look_at_overlay() { # before anything is made: is it the namespace's, and does it fit the data?
  [ -z "$DRY" ] || return 0
  local rendered named
  rendered=$(kubectl kustomize "$OVERLAY") || stop "$OVERLAY cannot be rendered: see docs/cluster/manifests.md for the order of components"
  named=$(awk '/^  namespace: / { print $2 }' <<< "$rendered" | sort -u | tr '\n' ' ')
  [ "$named" = "$NAMESPACE " ] || stop "$OVERLAY names the namespace ${named% }, and NAMESPACE is $NAMESPACE. Give both the same."
  case $SUBMIT_ARGS in *as_of=2017-12-31*) grep -q RECOMMENDER__TIME__AS_OF <<< "$rendered" \
    || stop "No campaign of the default data is live today: add the component demo to $OVERLAY, or set SUBMIT_ARGS for data of yours." ;; esac
}

# --- the end, whatever happens --------------------------------------------------------------------------------------
asked() { timeout 60 kubectl -n "$NAMESPACE" "$@" 2>&1 || true; }
keep_logs() { # of our pods, of this run's pods with KFP's drivers, and of the client
  local pod name id
  asked get pods,events -o wide > "$OUT/cluster.log"
  id=$(sed -n 's|.*/runs/details/||p' "$OUT/submit.log" 2> /dev/null | head -n 1) || true
  for pod in $(for label in app.kubernetes.io/part-of=campaign-recommender campaigns/e2e "pipeline/runid=${id:-none}"; do
    asked get pods -l "$label" -o name | grep '^pod/'
  done); do
    name=${pod##*/}
    asked describe "$pod" > "$OUT/$name.describe.log"
    asked logs "$pod" --all-containers --prefix --tail 500 > "$OUT/$name.log"
    asked logs "$pod" --all-containers --prefix --tail 500 --previous > "$OUT/$name.previous.log"
  done
}
finish() {
  local code=$? what
  trap - EXIT
  set +e
  [ "$code" = 0 ] || row "the script itself" "stopped with exit code $code" "its end" no
  # shellcheck disable=SC2046  # one word for each job that still runs: the load, or `submit`
  [ -z "$(jobs -pr)" ] || kill $(jobs -pr)
  [ "$failed" = 0 ] || [ -n "$DRY" ] || keep_logs
  step "Delete what this run created"
  [ -z "$client" ] || k delete pod "$CLIENT" --ignore-not-found --wait=false
  while read -r what; do
    case $what in persistentvolumeclaim/*) [ -n "$DELETE_DATA" ] || continue ;; esac
    # Without waiting: a claim goes when the pods that use it have gone.
    k delete "$what" --ignore-not-found --wait=false
    # The controller makes the store's claim, so it is ours if the StatefulSet is.
    if [ "$what" = statefulset.apps/campaign-store ] && [ -n "$DELETE_DATA" ]; then k delete pvc data-campaign-store-0 --ignore-not-found --wait=false; fi
  done < <(tac "$OUT/created.txt")
  printf '\n'
  # Columns as wide as their longest cell; a bare machine has awk and no `column`.
  awk -F '\t' 'NR == FNR { for (i = 1; i < NF; i++) if (length($i) > wide[i]) wide[i] = length($i); next }
    { for (i = 1; i < NF; i++) printf "%-" wide[i] + 2 "s", $i; print $NF }' "$OUT/table.tsv" "$OUT/table.tsv"
  [ "$failed" = 0 ] || printf '\nNot everything held. Logs of all pods: %s\n' "$OUT"
  exit "$failed"
}
