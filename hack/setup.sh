#!/usr/bin/env bash
# setup.sh: installs from the distribution what the build (a C compiler and libseccomp for the static shim) and
# the tests and demo (busybox, bash, the reference CNI plugins) need. Does nothing when all is there.
set -euo pipefail
packages=(gcc libc6-dev libseccomp-dev pkg-config busybox-static bash-static containernetworking-plugins)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "setup.sh: this is not Debian or Ubuntu; install by hand what stands for: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "setup.sh: needs root to install ${missing[*]}; run it with sudo" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
