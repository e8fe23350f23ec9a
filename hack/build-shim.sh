#!/bin/sh
# Builds the three static programs of the container runtime into internal/shim/embedded, from where the main binary
# embeds them: pause.bin (C, no libc), shim.bin (pure Go) and oci.bin (Go with libcontainer, cgo and libseccomp).
# Needs gcc and libseccomp's static library: apt-get install gcc libc6-dev libseccomp-dev
set -eu
cd "$(dirname "$0")/.."
out=${1:-internal/shim/embedded}
CC=${CC:-gcc}
wrap=$(for f in init arch_add attr_set rule_add_array rule_add_exact_array export_bpf; do printf ',--wrap=seccomp_%s' $f; done)
mkdir -p "$out"

"$CC" -Os -Wall -Wextra -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -no-pie \
	-nostdlib -static -s -Wl,--build-id=none,-z,noseparate-code,-z,noexecstack \
	-o "$out/pause.bin" internal/shim/pause/pause.c

CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out/shim.bin" ./cmd/podium-shim

CGO_ENABLED=1 go build -trimpath -tags "netgo osusergo seccomp static_build" \
	-ldflags "-s -w -extldflags '-static -Wl$wrap'" \
	-o "$out/oci.bin" ./cmd/podium-oci
