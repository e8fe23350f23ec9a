// Command podium-shim is the small process that accompanies each Pod. Only Podium's runtime starts it.
package main

import (
	"os"

	"podium.dev/podium/internal/shim/server"
)

func main() { os.Exit(server.Main()) }
