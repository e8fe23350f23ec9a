#!/usr/bin/env bash
# bench.sh: measures the node just built, or the binary PODIUM. PEER=KUBECONFIG measures another cluster in the same run; ROUNDS, MANY,
# IDLE and SOAK (Pods that come and go; SEED repeats a run, ONLY=soak leaves out all else) say how much. Prints a table for docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bench.sh: a node needs root: run it with sudo" >&2; exit 1; }
command -v runc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends runc >/dev/null; } ||
  echo "bench.sh: runc could not be installed; its figure is left out" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go run ./demo/mkimages "$work/images"
go run ./test/bench -podium "${PODIUM:-bin/podium}" -images "$work/images" -rounds "${ROUNDS:-20}" -many "${MANY:-200}" -idle "${IDLE:-60}" \
  -soak "${SOAK:-2000}" -seed "${SEED:-0}" ${ONLY:+-only-$ONLY} ${PEER:+-peer "$PEER"}
