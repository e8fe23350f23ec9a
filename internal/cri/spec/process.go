package spec

import (
	"errors"
	"fmt"
	"strings"
)

// defaultPath is the PATH of a container whose image sets none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process sets what is run, where and with which environment.
func (b *builder) process() error {
	p := b.spec.Process
	args, err := commandLine(b.Container.GetCommand(), b.Container.GetArgs(), b.Image.Entrypoint, b.Image.Cmd)
	if err != nil {
		return err
	}
	p.Args = args
	if dir := b.Container.GetWorkingDir(); dir != "" {
		p.Cwd = dir
	} else if b.Image.WorkingDir != "" {
		p.Cwd = b.Image.WorkingDir
	}
	if !strings.HasPrefix(p.Cwd, "/") {
		return fmt.Errorf("working directory %q must be an absolute path", p.Cwd)
	}
	env := environment{}
	env.set(defaultPath)
	if p.Terminal = b.Container.GetTty(); p.Terminal {
		env.set("TERM=xterm")
	}
	hostname := b.Sandbox.GetHostname()
	if hostname == "" {
		hostname = b.host.Hostname
	}
	env.set("HOSTNAME=" + hostname)
	for _, kv := range b.Image.Env {
		env.set(kv)
	}
	for _, e := range b.Container.GetEnvs() {
		env.set(e.GetKey() + "=" + string(e.GetValue()))
	}
	p.Env = env.list
	p.NoNewPrivileges = b.security.GetNoNewPrivs()
	// Set in any case: otherwise it would be the shim's, which protects it.
	adj := int(b.Container.GetLinux().GetResources().GetOomScoreAdj())
	p.OOMScoreAdj = &adj
	return nil
}

// commandLine merges the container's command and arguments with the image's: the command replaces the entrypoint and
// with it the image's arguments; arguments alone replace the image's.
func commandLine(command, args, entrypoint, cmd []string) ([]string, error) {
	if len(command) == 0 {
		if len(args) == 0 {
			args = cmd
		}
		if len(entrypoint) != 1 || entrypoint[0] != "" {
			command = entrypoint
		}
	}
	if len(command) == 0 && len(args) == 0 {
		return nil, errors.New("no command specified")
	}
	return append(append(make([]string, 0, len(command)+len(args)), command...), args...), nil
}

// environment is a list of KEY=VALUE in which a key set again keeps its place and gets the new value.
type environment struct {
	list  []string
	index map[string]int
}

func (e *environment) set(kv string) {
	key, _, ok := strings.Cut(kv, "=")
	if !ok {
		return // an image may name a variable without a value; it is not set
	}
	if e.index == nil {
		e.index = map[string]int{}
	}
	if i, have := e.index[key]; have {
		e.list[i] = kv
		return
	}
	e.index[key] = len(e.list)
	e.list = append(e.list, kv)
}
