package shim

import "encoding/json"

// SocketName is the shim's socket in its folder. The first connection does not need it: it is inherited as
// descriptor FirstConnFD.
const (
	SocketName  = "shim.sock"
	FirstConnFD = 3
)

// The methods of the protocol. Each request has one reply with the same ID. A connection to a shim that has no
// sandbox yet takes only Start.
const (
	MethodStart  = "start"
	MethodState  = "state"
	MethodRun    = "run"
	MethodExec   = "exec"
	MethodAttach = "attach"
	MethodSignal = "signal"
	MethodReopen = "reopen"
	MethodForget = "forget"
	MethodStop   = "stop"
	// MethodLimitLogs is unknown to shims of older versions, which return an error.
	MethodLimitLogs = "limit-logs"
)

// Frame is one message: a request (Method is set), its reply, or, with ID 0, an event.
type Frame struct {
	ID     uint64          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  *WireError      `json:"error,omitempty"`
}

// WireError is an error on its way; Kind tells which one of this package's it is.
type WireError struct {
	Kind    string `json:"kind,omitempty"`
	Message string `json:"message"`
}

// The kinds of WireError.
const (
	KindNotFound = "not-found"
	KindStart    = "start"
)

// ContainerRef is the body of the methods that need no more than a container.
type ContainerRef struct{ Container string }

// StartRequest is the body of MethodStart.
type StartRequest struct {
	Spec SandboxSpec
	// OCI and Pause are the paths of the two other programs.
	OCI, Pause string
}
