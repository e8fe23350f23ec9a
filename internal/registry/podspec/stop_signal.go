package podspec

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// stopSignal judges the signal that asks a container to end: which there are depends on the system. Where none is
// named there is no signal either, see Prune.
func (c *checker) stopSignal(s corev1.Signal, at *field.Path) {
	if c.spec.OS == nil {
		return
	}
	switch c.spec.OS.Name {
	case corev1.Windows:
		fielderrors.OneOf(&c.List, at, s, corev1.SIGKILL, corev1.SIGTERM)
	case corev1.Linux:
		fielderrors.OneOf(&c.List, at, s, linuxSignals()...)
	}
}

// linuxSignals are the names of Linux's signals in order, with those of the real-time ones as libc counts them.
func linuxSignals() []corev1.Signal {
	list := []corev1.Signal{
		corev1.SIGABRT, corev1.SIGALRM, corev1.SIGBUS, corev1.SIGCHLD, corev1.SIGCLD, corev1.SIGCONT, corev1.SIGFPE,
		corev1.SIGHUP, corev1.SIGILL, corev1.SIGINT, corev1.SIGIO, corev1.SIGIOT, corev1.SIGKILL, corev1.SIGPIPE,
		corev1.SIGPOLL, corev1.SIGPROF, corev1.SIGPWR, corev1.SIGQUIT, corev1.SIGSEGV, corev1.SIGSTKFLT, corev1.SIGSTOP,
		corev1.SIGSYS, corev1.SIGTERM, corev1.SIGTRAP, corev1.SIGTSTP, corev1.SIGTTIN, corev1.SIGTTOU, corev1.SIGURG,
		corev1.SIGUSR1, corev1.SIGUSR2, corev1.SIGVTALRM, corev1.SIGWINCH, corev1.SIGXCPU, corev1.SIGXFSZ,
		corev1.SIGRTMIN, corev1.SIGRTMAX,
	}
	for n := 1; n <= 15; n++ {
		list = append(list, corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", n)))
	}
	for n := 1; n <= 14; n++ {
		list = append(list, corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", n)))
	}
	slices.Sort(list)
	return list
}
