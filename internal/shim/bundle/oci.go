package bundle

// ResultFD is the descriptor, a stream socket, on which the short-lived process reads its Request and returns
// its Result. ConsoleFD, when Request.Terminal is set, takes the master of the new terminal.
const (
	ResultFD  = 3
	ConsoleFD = 4
)

// StateDir is the folder, in the container's, of libcontainer's own state.
const StateDir = "state"

// Request is one piece of work for the short-lived process; its working directory is the container's folder.
type Request struct {
	// ID is the container's.
	ID string
	// Exec starts a further process with Args in the container, instead of making it.
	Exec bool     `json:",omitempty"`
	Args []string `json:",omitempty"`
	// Terminal asks for a terminal, whose master is sent over ConsoleFD.
	Terminal bool `json:",omitempty"`
}

// Result is what came of a Request.
type Result struct {
	// PID of the new process, as seen by the one who asked.
	PID int `json:",omitempty"`
	// Cgroups are the container's cgroups as absolute paths by v1 controller; on v2 the key is empty.
	Cgroups map[string]string `json:",omitempty"`
	// UID, GID and Groups are what Bundle.User came to.
	UID, GID uint32   `json:",omitempty"`
	Groups   []uint32 `json:",omitempty"`
	// Notes say what could not be done as asked, without harm.
	Notes []string `json:",omitempty"`
	// Error is why nothing was started; empty when something was.
	Error string `json:",omitempty"`
}
