#!/usr/bin/env bash
# demo.sh: the main job. Installs the binary just built, makes the demo's images from what is on this machine (no
# network needed), starts a node and runs a first Pod.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "demo.sh: a node needs root: run it with sudo make demo" >&2; exit 1; }

install -m 0755 bin/podium /usr/local/bin/podium
if ! command -v kubectl >/dev/null; then
  ln -s podium /usr/local/bin/kubectl # kubectl comes with Podium: the binary called by that name
fi
root=/var/lib/podium
mkdir -p -m 0700 "$root" "$root/images"
go run ./demo/mkimages "$root/images"

code=0
podium up --detach "$@" || code=$?
[ "$code" = 0 ] || [ "$code" = 4 ] || exit "$code" # 4: it runs already

# The user's own kubectl finds the node where it looks first, unless it has something there.
home=$HOME
[ -z "${SUDO_USER:-}" ] || home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
if [ ! -e "$home/.kube/config" ]; then
  mkdir -p -m 0700 "$home/.kube"
  install -m 0600 "$(podium kubeconfig)" "$home/.kube/config"
  [ -z "${SUDO_USER:-}" ] || chown -R "$SUDO_USER:" "$home/.kube"
fi

podium kubectl apply -f examples/demo.yaml
podium kubectl wait --for=condition=Ready pod/demo --timeout=60s
podium kubectl get pods -o wide
cat <<'T'

Go on with:
  kubectl exec demo -it -c shell -- sh         and there: curl localhost
  kubectl logs demo -c web -f
  kubectl describe pod demo
  kubectl run webserver --image=nginx:1.14     (pulled from its registry: needs a network)
  sudo podium down                             stops it all; --purge removes it
T
