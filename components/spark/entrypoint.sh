#!/usr/bin/env bash
# What Spark's Kubernetes scheduler expects of an image: `driver` and `executor` as first word. Anything else is run as it
# is. The variables are those that the scheduler sets in its pods
# (https://spark.apache.org/docs/4.0.0/running-on-kubernetes.html#docker-images).
set -euo pipefail

case "${1-}" in
  driver)
    shift
    exec "$SPARK_HOME/bin/spark-submit" --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
      --deploy-mode client "$@"
    ;;
  executor)
    # Spark numbers the options of the executor's Java: SPARK_JAVA_OPT_0, _1, …
    options=()
    for ((place = 0; ; place++)); do
      name=SPARK_JAVA_OPT_$place
      [ -n "${!name+set}" ] || break
      options+=("${!name}")
    done
    exec "$JAVA_HOME/bin/java" "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
      -cp "${SPARK_CONF_DIR:-$SPARK_HOME/conf}:${SPARK_CLASSPATH:-}:$SPARK_HOME/jars/*" \
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
  *)
    exec "$@"
    ;;
esac
