package fake

import (
	"strings"
	"time"
)

// Script is what a process does: it writes Output and Errors, copies its stdin if it is to, runs for a time, and ends.
type Script struct {
	// StartError keeps it from starting.
	StartError     string
	Output, Errors string
	// Echo copies stdin to stdout until stdin ends.
	Echo bool
	// RunFor is how long it runs; Forever until it is signalled.
	RunFor  time.Duration
	Forever bool
	// ExitCode is its code in the end.
	ExitCode int
	// IgnoreTerm makes SIGTERM do nothing. Else it ends the process after KillAfter, with code 143.
	IgnoreTerm bool
	KillAfter  time.Duration
	// OOM says that the kernel killed a process of the container for memory.
	OOM bool
}

// read reads a program's arguments.
func read(args []string) Script {
	switch {
	case len(args) == 0:
		return Script{Forever: true}
	case args[0] == "true":
		return Script{}
	case args[0] == "false":
		return Script{ExitCode: 1}
	case args[0] != "fake":
		return Script{Forever: true}
	}
	s := Script{}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "start_error":
			s.StartError = value
		case "output":
			s.Output = value
		case "errors":
			s.Errors = value
		case "echo":
			s.Echo = true
		case "run_for":
			s.RunFor, _ = time.ParseDuration(value)
		case "forever":
			s.Forever = true
		case "exit_code":
			s.ExitCode = number(value)
		case "ignore_term":
			s.IgnoreTerm = true
		case "kill_after":
			s.KillAfter, _ = time.ParseDuration(value)
		case "oom":
			s.OOM, s.ExitCode = true, 137
		}
	}
	return s
}

// Args are the arguments of a container that follows the script.
func (s Script) Args() []string {
	out := []string{"fake"}
	add := func(set bool, arg string) {
		if set {
			out = append(out, arg)
		}
	}
	add(s.StartError != "", "start_error="+s.StartError)
	add(s.Output != "", "output="+s.Output)
	add(s.Errors != "", "errors="+s.Errors)
	add(s.Echo, "echo")
	add(s.RunFor != 0, "run_for="+s.RunFor.String())
	add(s.Forever, "forever")
	add(s.IgnoreTerm, "ignore_term")
	add(s.KillAfter != 0, "kill_after="+s.KillAfter.String())
	add(s.OOM, "oom")
	add(s.ExitCode != 0, "exit_code="+itoa(s.ExitCode))
	return out
}
