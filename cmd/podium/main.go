// Command podium is the Kubernetes Pod system in one binary.
package main

import (
	"os"

	"podium.dev/podium/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args))
}
