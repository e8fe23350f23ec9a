//go:build cgo

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	_ "github.com/opencontainers/cgroups/devices" // lets cgroup managers set device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // the C constructor that enters the namespaces
	"github.com/sirupsen/logrus"

	"podium.dev/podium/internal/shim/bundle"
)

// Main runs one request, or libcontainer's half that is inside the container, and returns the exit code.
func Main() int {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		if err := takeFiles(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		libcontainer.Init() // does not return
	}
	sock := os.NewFile(bundle.ResultFD, "request")
	if sock == nil {
		fmt.Fprintln(os.Stderr, "this program is started by Podium's shim and does nothing for anyone else")
		return 2
	}
	var warnings bytes.Buffer
	logrus.SetOutput(&warnings)
	logrus.SetLevel(logrus.WarnLevel)
	logrus.SetFormatter(plain{})

	res := handle(sock)
	for w := range strings.Lines(warnings.String()) {
		res.Notes = append(res.Notes, strings.TrimSpace(w))
	}
	if err := json.NewEncoder(sock).Encode(res); err != nil || res.Error != "" {
		return 1
	}
	return 0
}

func handle(r io.Reader) bundle.Result {
	var req bundle.Request
	if err := json.NewDecoder(r).Decode(&req); err != nil {
		return bundle.Result{Error: fmt.Sprintf("read the request: %v", err)}
	}
	if err := ownStreams(); err != nil {
		return bundle.Result{Error: fmt.Sprintf("open a null device: %v", err)}
	}
	do := create
	if req.Exec {
		do = exec
	}
	res, err := do(&req)
	if err != nil {
		res.Error = err.Error()
	}
	return res
}

// plain writes a warning's message and nothing else.
type plain struct{}

func (plain) Format(e *logrus.Entry) ([]byte, error) {
	return append([]byte(e.Message), '\n'), nil
}
