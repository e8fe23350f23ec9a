package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/util/atomicfile"
)

// sandboxRecord is what a sandbox is made with. It is on disk before anything is made.
type sandboxRecord struct {
	ID, Key   string
	CreatedAt time.Time
	// BootID is the machine's at that time.
	BootID string
	// Config is the encoded PodSandboxConfig, Handler the runtime handler asked for.
	Config  []byte
	Handler string
	// NetNS is the file of its network namespace; empty on the host's network. Cgroup is pause's.
	NetNS, Cgroup string
}

// sandboxState is what becomes of it. Without one on disk a sandbox is half made.
type sandboxState struct {
	Ready     bool
	IPs       []string `json:",omitempty"`
	PausePID  int      `json:",omitempty"`
	StoppedAt time.Time
	// Overhead and Resources are the last that UpdatePodSandboxResources told, encoded.
	Overhead, Resources []byte `json:",omitempty"`
}

// containerRecord is what a container is made with. It is on disk before anything is made.
type containerRecord struct {
	ID, Key, SandboxID string
	CreatedAt          time.Time
	// Config is the encoded ContainerConfig.
	Config []byte
	// ImageID is the image's configuration digest, ImageRef its first reference by digest, ImageName its first tag.
	ImageID, ImageRef, ImageName string
	// LogPath is absolute, or empty.
	LogPath string
	// StopSignal is the name of the signal that asks it to end.
	StopSignal string
	Cgroup     string
	// KillAll says that it has no PID namespace of its own.
	KillAll bool
}

// containerState is what becomes of it. Without one on disk a container is half made.
type containerState struct {
	State                 string
	PID                   int `json:",omitempty"`
	StartedAt, FinishedAt time.Time
	ExitCode              int    `json:",omitempty"`
	Reason                string `json:",omitempty"`
	Message               string `json:",omitempty"`
	// UID, GID and Groups are known once it was started.
	UID, GID uint32
	Groups   []uint32 `json:",omitempty"`
	HasUser  bool     `json:",omitempty"`
	// Resources are the encoded LinuxContainerResources in force.
	Resources []byte `json:",omitempty"`
}

// The states of a container.
const (
	stateCreated = "created"
	stateRunning = "running"
	stateExited  = "exited"
)

const (
	recordFile = "record.json"
	stateFile  = "state.json"
	exitFile   = "exit.json"
)

// The folders of what exists: a record's (kept over a reboot) and a run-time one (not).
func (r *Runtime) sandboxDir(id string) string {
	return filepath.Join(r.cfg.Paths.Runtime, "sandboxes", id)
}
func (r *Runtime) containerDir(id string) string {
	return filepath.Join(r.cfg.Paths.Runtime, "containers", id)
}
func (r *Runtime) shimDir(id string) string { return filepath.Join(r.cfg.Paths.Run, "sandboxes", id) }
func (r *Runtime) bundleDir(id string) string {
	return filepath.Join(r.cfg.Paths.Run, "containers", id)
}
func (r *Runtime) netNSFile(id string) string { return filepath.Join(r.cfg.Paths.Run, "netns", id) }
func (r *Runtime) privateDir() string         { return filepath.Join(r.cfg.Paths.Run, "private") }
func (r *Runtime) seccompDir() string         { return filepath.Join(r.cfg.Paths.Runtime, "seccomp") }

// save replaces a file of dir by v in one step. It need not survive a power cut, which also ends the processes that it
// describes.
func save(dir, file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	return atomicfile.Write(filepath.Join(dir, file), data, 0o600, atomicfile.Crash)
}

// load reads what save has written. The error wraps fs.ErrNotExist when there is nothing, and errHalf when it cannot be
// read, which a power cut may leave.
func load(dir, file string, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w (%w)", filepath.Join(dir, file), errHalf, err)
	}
	return nil
}

// errHalf is a record that cannot be read.
var errHalf = errors.New("half written")

// loadExit reads the exit that a shim has kept; nil for none.
func loadExit(dir string) (*shim.Exit, error) {
	var exit shim.Exit
	err := load(dir, exitFile, &exit)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errHalf) {
		return nil, nil
	}
	return &exit, err
}

// saveState keeps the container's state; the caller holds c.mu.
func (r *Runtime) saveContainerLocked(c *container) error {
	if err := save(r.containerDir(c.ID), stateFile, c.state); err != nil {
		return fmt.Errorf("keep the state of container %s: %w", c.ID, err)
	}
	return nil
}

// saveSandboxLocked keeps the sandbox's state; the caller holds s.mu.
func (r *Runtime) saveSandboxLocked(s *sandbox) error {
	if err := save(r.sandboxDir(s.ID), stateFile, s.state); err != nil {
		return fmt.Errorf("keep the state of sandbox %s: %w", s.ID, err)
	}
	return nil
}
