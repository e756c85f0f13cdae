#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Kafka's own programs, for the client checks, the codec's differential test and the benchmarks: Apache Kafka's
# jars from Maven Central, a JDK, and kcat. `setup/install clients` sources this file; it also runs alone.
#
# usage: setup/clients.sh [--jars | --clients-jar]
#   (nothing)       install what is missing; says nothing when all is there
#   --jars          print the folder of Apache Kafka's jars, whether they are there or not
#   --clients-jar   print the path of the newest kafka-clients jar (ODRADEK_KAFKA_CLIENTS_JAR)
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  . "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
  . "$setup/packages.sh"
  . "$setup/toolchains.sh"
fi

clients_folder() {
  echo "$cache/jars-$(key "" "$setup"/jars/{kafka,clients}/pom.xml)"
}

clients_jar() {
  local version
  version="$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$setup/jars/clients/pom.xml")"
  echo "$(clients_folder)/clients/kafka-clients-$version.jar"
}

# fetch_jars FOLDER: both sets of jars, complete or not at all.
fetch_jars() {
  local folder="$1" log="$cache/logs/jars.log" started=$SECONDS part
  [ -d "$folder" ] && return
  mkdir -p "$cache/logs"
  say "downloading Apache Kafka's jars from Maven Central, once (about 65 MB)"
  rm -rf "$folder.new"
  : >"$log"
  for part in kafka clients; do
    if ! mvn -q -B -f "$setup/jars/$part/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$folder.new/$part" >>"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      fail "Maven could not download Apache Kafka's jars; the whole log is $log"
    fi
  done
  mv "$folder.new" "$folder"
  say "downloaded $(find "$folder" -name '*.jar' | wc -l) jars in $((SECONDS - started)) s"
}

install_clients() {
  local folder
  folder="$(clients_folder)"
  need "openjdk-$java_minimum-jdk-headless" java
  need "openjdk-$java_minimum-jdk-headless" javac
  need kcat kcat
  [ -d "$folder" ] || need maven mvn
  packages_present
  java_present
  [ -d "$folder" ] || locked jars fetch_jars "$folder"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  case "${1:-}" in
  "") install_clients ;;
  --jars) echo "$(clients_folder)/kafka" ;;
  --clients-jar) clients_jar ;;
  *)
    sed -n '3,/^if/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | grep -v '^if' >&2
    exit 2
    ;;
  esac
fi
