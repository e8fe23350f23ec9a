//go:build cgo && seccomp

// A container starts with no signal ignored and none blocked, whatever the daemon was started with: programs pass on what they ignore,
// and glibc's posix_spawn, by which make and others start programs, has even its internal signals (32, 33) ignored.
// sigaction(3) refuses to touch those two, so the kernel is asked itself.

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

// The kernel's signals are 1 to 64; its own form of struct sigaction is at most four words, and all zero is SIG_DFL.
enum { last_signal = 64, mask_bytes = 8 };

__attribute__((constructor)) static void default_signals(void)
{
	const unsigned long action[4] = { 0 }, none = 0;

	for (int signal = 1; signal <= last_signal; signal++)
		syscall(SYS_rt_sigaction, signal, action, 0, mask_bytes);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, mask_bytes);
}
