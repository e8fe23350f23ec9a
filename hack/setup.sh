#!/usr/bin/env bash
# setup.sh: installs from the distribution what the build (a C compiler and libseccomp for the static shim) and
# the tests and demo (busybox, bash, the reference CNI plugins, a D-Bus) need. Does nothing when all is there.
#
#   setup.sh vm    also what the test machine needs: QEMU, mkfs.ext4, and in bin/vm the package of Debian's kernel for
#                  virtual machines, which is not installed
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(gcc libc6-dev libseccomp-dev pkg-config busybox-static bash-static containernetworking-plugins dbus-daemon)
kernel=
if [ "${1:-}" = vm ]; then
  packages+=(qemu-system-x86 e2fsprogs)
  compgen -G 'bin/vm/linux-image-*.deb' >/dev/null || kernel=linux-image-cloud-amd64
fi
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || [ -n "$kernel" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "setup.sh: this is not Debian or Ubuntu; install by hand what stands for: ${missing[*]} $kernel" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "setup.sh: needs root to install ${missing[*]} $kernel; run it with sudo" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ -n "$kernel" ]; then
  # The name stands for the newest kernel: the package that it depends on holds the files.
  image=$(apt-cache depends "$kernel" 2>/dev/null | awk '/Depends: linux-image-/ {print $2; exit}')
  if [ -z "$image" ]; then
    echo "setup.sh: no package source has $kernel, the kernel of the test machine; put a linux-image-*.deb of Debian into bin/vm" >&2
    exit 1
  fi
  mkdir -p bin/vm
  (cd bin/vm && apt-get download -qq -o APT::Sandbox::User=root "$image")
fi
