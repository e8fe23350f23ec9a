package cri

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// defaultStopSignal asks a container to end whose image and configuration say nothing else.
const defaultStopSignal = "SIGTERM"

// criSignalPrefix is what CRI's names begin with: "SIGNAL_SIGTERM", "SIGNAL_SIGRTMINPLUS3".
const criSignalPrefix = "SIGNAL_"

// The real-time signals as libc numbers them, which the kernel does not name.
const (
	firstRealtime = 34
	lastRealtime  = 64
	minPlus       = 15 // up to SIGRTMIN+15 they are named from the first, then from the last
)

// stopSignalName is the configuration's signal, or the image's, or SIGTERM, without CRI's prefix.
func stopSignalName(s runtimeapi.Signal, image string) string {
	if s != 0 {
		return strings.TrimPrefix(s.String(), criSignalPrefix)
	}
	if name := signalName(signalNumber(image)); name != "" {
		return name
	}
	return defaultStopSignal
}

// criSignal is CRI's value of a name.
func criSignal(name string) runtimeapi.Signal {
	return runtimeapi.Signal(runtimeapi.Signal_value[criSignalPrefix+name])
}

// aliases are the second names of signals.
var aliases = map[string]unix.Signal{"SIGCLD": unix.SIGCHLD, "SIGIOT": unix.SIGABRT, "SIGPOLL": unix.SIGIO}

// signalNumber knows "SIGTERM", "TERM", "15", "SIGRTMIN+3" and CRI's "SIGRTMINPLUS3"; 0 for none of them.
func signalNumber(name string) unix.Signal {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > lastRealtime {
			return 0
		}
		return unix.Signal(n)
	}
	name = "SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")
	name = strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(name)
	for prefix, base := range map[string]int{"SIGRTMIN": firstRealtime, "SIGRTMAX": lastRealtime} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(rest)
		if rest != "" && err != nil || base+n < firstRealtime || base+n > lastRealtime {
			return 0
		}
		return unix.Signal(base + n)
	}
	if n, ok := aliases[name]; ok {
		return n
	}
	return unix.SignalNum(name)
}

// signalName is the name without CRI's prefix; empty for no signal.
func signalName(n unix.Signal) string {
	switch {
	case n == firstRealtime:
		return "SIGRTMIN"
	case n == lastRealtime:
		return "SIGRTMAX"
	case n > firstRealtime && n <= firstRealtime+minPlus:
		return "SIGRTMINPLUS" + strconv.Itoa(int(n)-firstRealtime)
	case n > firstRealtime && n < lastRealtime:
		return "SIGRTMAXMINUS" + strconv.Itoa(lastRealtime-int(n))
	}
	return unix.SignalName(n)
}
