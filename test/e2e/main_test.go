// Package e2e drives the real binary with real containers through the Kubernetes API, as a user does. One
// node serves most tests, each in a namespace of its own and in parallel; tests that stop or kill the daemon
// start a node of their own.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The images that the demo tool makes.
const (
	webImage   = "podium.local/demo/web:1.14"
	shellImage = "podium.local/demo/shell:1"
)

// shared is the node that most tests use.
var shared *node

// imageDir holds the demo images' archives. They are made for the tests, or are where PODIUM_IMAGES says.
var imageDir string

// atOnce is how many tests run side by side unless the command line says it: they wait more than they work.
const atOnce = "6"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Println(err)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("the end-to-end tests make namespaces, cgroups and mounts: run them as root")
		return 1
	}
	dir, err := os.MkdirTemp("", "podium-e2e-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if imageDir, err = images(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv(machineVariable) != "" {
		return m.Run() // a machine's node is on its disk
	}
	shared, err = startNode(filepath.Join(dir, "node"))
	if err != nil {
		fmt.Println("start the node:", err)
		return 1
	}
	code := m.Run()
	if err := shared.down(); err != nil {
		fmt.Println("stop the node:", err)
		code = 1
	}
	for _, leak := range shared.leaks() {
		fmt.Println("left on the machine:", leak)
		code = 1
	}
	return code
}

// images answers with the folder of the demo images' archives.
func images(dir string) (string, error) {
	if made := os.Getenv("PODIUM_IMAGES"); made != "" {
		return made, nil
	}
	made := filepath.Join(dir, "images")
	if out, err := command("go", "run", "podium.dev/podium/demo/mkimages", made).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the demo images: %w\n%s", err, out)
	}
	return made, nil
}
