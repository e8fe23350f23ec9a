//go:build cgo

// Command podium-oci makes a container, or starts a process in one, and ends. Only Podium's shim runs it.
package main

import (
	"os"

	"podium.dev/podium/internal/shim/oci"
)

func main() { os.Exit(oci.Main()) }
