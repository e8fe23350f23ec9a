//go:build cgo

package oci

import (
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"podium.dev/podium/internal/shim/bundle"
)

// exec starts a process in the running container whose folder is the working directory. It is like the container's
// first in all but its arguments.
func exec(req *bundle.Request) (bundle.Result, error) {
	var res bundle.Result
	root, err := filepath.Abs(bundle.StateDir)
	if err != nil {
		return res, err
	}
	c, err := libcontainer.Load(root, req.ID)
	if err != nil {
		return res, execError(err)
	}
	first, err := bundle.ReadProcess(".")
	if err != nil {
		return res, err
	}
	first.Process.Args = req.Args
	first.Process.OOMScoreAdj = nil
	p, err := process(first.Process, req.Terminal)
	if err != nil {
		return res, err
	}
	if err := launch(c, p, first.SeccompCache); err != nil {
		return res, execError(err)
	}
	return started(c, p, res)
}

func execError(err error) error {
	return fmt.Errorf("OCI runtime exec failed: exec failed: %w", err)
}

// capabilities is nil for nil, which leaves the process those of the container.
func capabilities(c *specs.LinuxCapabilities) *configs.Capabilities {
	if c == nil {
		return nil
	}
	return &configs.Capabilities{
		Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
	}
}
