//go:build cgo

package oci

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/rootfs"
)

// create makes the container of the bundle in the working directory and starts its process. The caller has given
// this process a mount namespace of its own, so what is mounted here goes with the container.
func create(req *bundle.Request) (bundle.Result, error) {
	var res bundle.Result
	b, err := bundle.Read(".")
	if err != nil {
		return res, err
	}
	if err := prepareMounts(b); err != nil {
		return res, err
	}
	files := filepath.Join(b.Private, bundle.RootfsDir)
	user, err := rootfs.User(files, b.User)
	if err != nil {
		return res, err
	}
	b.Spec.Root.Path = files
	b.Spec.Process.User = user
	res.UID, res.GID, res.Groups = user.UID, user.GID, user.AdditionalGids
	res.Notes = restrictOOMScore(b.Spec.Process)

	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: b.ID, Spec: b.Spec, NoPivotRoot: onInitialRoot(),
	})
	if err != nil {
		return res, ociError(err)
	}
	// An absolute path: the executable is sealed by an overlay whose lower folders must be absolute.
	root, err := filepath.Abs(bundle.StateDir)
	if err != nil {
		return res, err
	}
	if err := bundle.WriteProcess(".", &bundle.Process{Process: b.Spec.Process, SeccompCache: b.SeccompCache}); err != nil {
		return res, err
	}
	c, err := libcontainer.Create(root, b.ID, config)
	if err != nil {
		return res, ociError(err)
	}
	p, err := process(b.Spec.Process, req.Terminal)
	if err != nil {
		_ = c.Destroy()
		return res, err
	}
	p.Init = true
	if err := launch(c, p, b.SeccompCache); err != nil {
		_ = c.Destroy()
		return res, ociError(err)
	}
	return started(c, p, res)
}

// started fills in what is known once the process runs.
func started(c *libcontainer.Container, p *libcontainer.Process, res bundle.Result) (bundle.Result, error) {
	pid, err := p.Pid()
	if err != nil {
		return res, err
	}
	state, err := c.State()
	if err != nil {
		return res, err
	}
	res.PID, res.Cgroups = pid, state.CgroupPaths
	return res, nil
}

// ociError words a failure to make a container as its users know it from other runtimes.
func ociError(err error) error {
	return fmt.Errorf("OCI runtime create failed: %w", err)
}

// process turns the runtime configuration's process into libcontainer's.
func process(p *specs.Process, terminal bool) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, AppArmorProfile: p.ApparmorProfile,
		NoNewPrivileges: &p.NoNewPrivileges,
		Capabilities:    capabilities(p.Capabilities),
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	if terminal {
		lp.ConsoleSocket = os.NewFile(bundle.ConsoleFD, "console")
		if lp.ConsoleSocket == nil {
			return nil, fmt.Errorf("a terminal is asked for, but descriptor %d is not open", bundle.ConsoleFD)
		}
		if s := p.ConsoleSize; s != nil {
			lp.ConsoleWidth, lp.ConsoleHeight = uint16(s.Width), uint16(s.Height)
		}
	}
	// With a terminal too, which takes their place: without them the new process would begin with the host's /dev/null.
	lp.Stdin, lp.Stdout, lp.Stderr = os.Stdin, os.Stdout, os.Stderr
	return lp, nil
}
