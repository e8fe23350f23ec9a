// Package shim says what a Pod's shim does and how it is spoken to. A shim is one small process a Pod that outlives
// the daemon: the parent of pause, which holds the Pod's namespaces, and of the Pod's containers. It writes their
// logs, keeps their exit codes on disk, holds their stdin and terminals, and starts further processes in them.
//
//	      ┌────────── daemon ──────────┐
//	      │ cri ── Shim (package client)│
//	      └───────────┬────────────────┘
//	unix socket, frames of JSON and descriptors
//	      ┌───────────▼────────────────┐   runs for moments   ┌──────────────────────────┐
//	      │ podium-shim (package server)│─────────────────────▶│ podium-oci (package oci) │
//	      └──┬──────────┬──────────────┘                      │ libcontainer             │
//	       pause     containers ◀─────── made by ──────────────└──────────────────────────┘
//
// The fake of package fake does the same by script, for tests with no container.
package shim

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrGone is returned by every call once the shim is dead, and by Connect when none runs. The Pod's processes may
// outlive it by moments: pause ends with the shim, containers must be killed by their cgroup.
var ErrGone = errors.New("the Pod's shim is gone")

// ErrNotFound is returned for a container or process that the shim does not have.
var ErrNotFound = errors.New("not found in the Pod's shim")

// Launcher starts shims and finds those that run.
type Launcher interface {
	// Launch starts a shim and the Pod's pause process. When it fails, nothing is left behind.
	Launch(ctx context.Context, spec SandboxSpec) (Shim, SandboxState, error)
	// Connect reaches the shim of a folder that Launch was once given. ErrGone when it does not run.
	Connect(ctx context.Context, dir string) (Shim, error)
}

// Shim is the daemon's side of one running shim. It is safe for concurrent use.
type Shim interface {
	// State returns all that the shim holds.
	State(ctx context.Context) (State, error)
	// Run makes and starts a container. An error that wraps *StartError says that the container could not be
	// started, and that nothing of it is left.
	Run(ctx context.Context, req RunRequest) (RunResult, error)
	// Exec starts a process in a running container. The files are its stdin, stdout and stderr; with a terminal
	// it is one stream socket, which receives the terminal's master. The caller closes its files in either case.
	// The process's exit comes as an Event.
	Exec(ctx context.Context, req ExecRequest, files ...*os.File) (ExecResult, error)
	// Attach sends what the container writes from now on to stdout and stderr, either of which may be nil (with a
	// terminal all goes to stdout), until the container has closed them, their readers are gone, or a reader was too
	// slow. It fails once the container has ended.
	Attach(ctx context.Context, req AttachRequest, stdout, stderr *os.File) (Attachment, error)
	// Signal signals a container's process, or that of an exec. No error when it has ended.
	Signal(ctx context.Context, req SignalRequest) error
	// ReopenLog closes the container's log and opens it again by its path.
	ReopenLog(ctx context.Context, container string) error
	// LimitLogs sets how large the logs of the Pod's containers become. A shim of an older version has no such
	// method and returns an error: its logs are rotated by the node alone.
	LimitLogs(ctx context.Context, limits LogLimits) error
	// Forget drops an ended container from the shim's memory.
	Forget(ctx context.Context, container string) error
	// Stop kills all containers and pause, waits for their end and ends the shim. Idempotent.
	Stop(ctx context.Context) error
	// Events are the exits, and kills for memory, since the connection was made, in order. The channel is closed when the shim is gone
	// or Close was called.
	Events() <-chan Event
	// Close lets go of the shim, which runs on.
	Close() error
}

// StartError is why a container or process was not started, in the runtime's words.
type StartError struct{ Message string }

func (e *StartError) Error() string { return e.Message }

// SandboxSpec is what a Pod's shim is started with.
type SandboxSpec struct {
	// ID is the sandbox's.
	ID string
	// Dir is the shim's own folder, 0700, which exists. Its socket is made there.
	Dir string
	// Net, UTS, IPC and PID say which namespaces are the Pod's own; the others are the host's (for PID: each
	// container has one).
	Net, UTS, IPC, PID bool
	// Hostname is set when UTS is.
	Hostname string `json:",omitempty"`
	// Sysctls are set in the Pod's namespaces.
	Sysctls map[string]string `json:",omitempty"`
	// NetNSFile is bound to the Pod's network namespace when Net is set. The file is made.
	NetNSFile string `json:",omitempty"`
	// ShmBytes is the size of the Pod's /dev/shm when IPC is set.
	ShmBytes int64 `json:",omitempty"`
	// Cgroups are folders of cgroups that pause is put into; they exist.
	Cgroups []string `json:",omitempty"`
	// OOMScoreAdj is pause's, as far as it may be lowered.
	OOMScoreAdj int `json:",omitempty"`
	// Logs limits the containers' logs. A shim of an older version ignores it.
	Logs LogLimits
}

// LogLimits is how large a container's log becomes: the shim puts the file aside before it is larger than MaxSize
// bytes, and keeps at most MaxFiles files, the one that is written among them (the kubelet's containerLogMaxSize and
// containerLogMaxFiles). With a MaxSize of 0 the shim rotates nothing.
type LogLimits struct {
	MaxSize  int64 `json:",omitempty"`
	MaxFiles int   `json:",omitempty"`
}

// SandboxState is what a started sandbox is made of.
type SandboxState struct {
	ShimPID, PausePID int
	StartedAt         time.Time
	// PauseExit is set when pause has ended without being asked to.
	PauseExit *Exit `json:",omitempty"`
	// Notes say what could not be done as asked, without harm.
	Notes []string `json:",omitempty"`
}

// State is all that a shim holds.
type State struct {
	Sandbox    SandboxState
	Containers []ContainerState `json:",omitempty"`
}

// ContainerState is a container that was started; Exit is nil while it runs.
type ContainerState struct {
	ID     string
	Result RunResult
	Exit   *Exit `json:",omitempty"`
}

// RunRequest asks for a container.
type RunRequest struct {
	ID string
	// Dir is the container's folder, which holds the bundle.
	Dir string
	// LogPath is the log file, which is made with the folders above it; empty for none.
	LogPath string `json:",omitempty"`
	// ExitFile is where the container's Exit is written.
	ExitFile string
	// Stdin keeps the container's stdin open for those who attach, StdinOnce only for the first of them.
	Stdin, StdinOnce bool `json:",omitempty"`
	// TTY gives it a terminal.
	TTY bool `json:",omitempty"`
	// KillAll says that the container has no PID namespace of its own, so that its end does not end its children:
	// the shim kills them.
	KillAll bool `json:",omitempty"`
}

// RunResult is a container that was started.
type RunResult struct {
	PID       int
	StartedAt time.Time
	// Cgroups are its cgroups' folders by v1 controller; on v2 the key is empty.
	Cgroups  map[string]string `json:",omitempty"`
	UID, GID uint32
	Groups   []uint32 `json:",omitempty"`
	Notes    []string `json:",omitempty"`
}

// ExecRequest asks for a process in a container.
type ExecRequest struct {
	Container string
	// ID tells the container's processes apart.
	ID   string
	Args []string
	TTY  bool `json:",omitempty"`
	// WithCaller kills the process when the connection that asked for it is lost.
	WithCaller bool `json:",omitempty"`
}

// ExecResult is a process that was started.
type ExecResult struct{ PID int }

// AttachRequest asks for a container's streams.
type AttachRequest struct {
	Container string
	// Stdin asks for the way to write to it.
	Stdin bool `json:",omitempty"`
	// Stdout and Stderr say which of the files that come with the request are there.
	Stdout, Stderr bool `json:",omitempty"`
	// End reports that the last of the files is a pipe that the shim writes an AttachEnd to. A shim of an older
	// version closes it instead.
	End bool `json:",omitempty"`
}

// Attachment is what Attach returns.
type Attachment struct {
	// Stdin is where the container's stdin or terminal is written to; nil when it was not asked for, or is not open.
	// The caller closes it.
	Stdin *os.File
	// End receives how the attachment ended, and is closed: without a value by a shim that does not report it, or
	// when the shim is gone.
	End <-chan AttachEnd
}

// AttachEnd is how an attachment ended.
type AttachEnd struct {
	// Before counts the bytes that the container had written to the attached streams before.
	Before int64 `json:",omitempty"`
	// Slow reports that the shim let go of the client because it did not take what the container wrote.
	Slow bool `json:",omitempty"`
}

// SignalRequest asks for a signal.
type SignalRequest struct {
	Container string
	// Exec is a process of the container; empty for its first.
	Exec   string `json:",omitempty"`
	Signal int
	// All signals every process of the container, or every one in the exec's process group.
	All bool `json:",omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, or 128 and the signal.
	Code int
	// Signal that ended it; 0 for none.
	Signal int `json:",omitempty"`
	At     time.Time
	// OOM says that the kernel killed a process of the container for memory, this one or another; Memory is what it
	// says of it.
	OOM    bool    `json:",omitempty"`
	Memory *Memory `json:",omitempty"`
}

// Memory is what the kernel says of a container that it has killed a process of for memory.
type Memory struct {
	// Kills counts the killed processes since the container's start.
	Kills uint64
	// Limit is the container's own limit, Above the least of the cgroups that it is in, Peak the most that it has
	// used at a time; bytes, 0 for none and for what the kernel does not tell.
	Limit, Above, Peak uint64 `json:",omitempty"`
}

// Event is a process's end. Container is empty for pause, Exec for a container's first process. With OOM set it is not
// an end: the kernel has killed a process of the container for memory, one time or more. When that was the first
// process, its end follows.
type Event struct {
	Container string  `json:",omitempty"`
	Exec      string  `json:",omitempty"`
	OOM       *Memory `json:",omitempty"`
	Exit      Exit
}
