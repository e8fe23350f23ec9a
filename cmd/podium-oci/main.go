//go:build cgo

// The runtime would look for limits on CPU at every start, and keep files of the cgroup open that other processes of a
// container reach.
//go:debug containermaxprocs=0

// Command podium-oci creates a container, or starts a process in one, and exits. Only Podium's shim runs it.
package main

import (
	"os"

	"podium.dev/podium/internal/shim/oci"
)

func main() { os.Exit(oci.Main()) }
