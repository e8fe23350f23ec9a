//go:build cgo

// Command podium-oci creates a container, or starts a process in one, and exits. Only Podium's shim runs it.
package main

import (
	"os"

	"podium.dev/podium/internal/shim/oci"
)

func main() { os.Exit(oci.Main()) }
