/* pause holds a Pod's namespaces, and nothing else. It is the Pod's first process, made by the shim with the
 * namespaces it is to hold, and process 1 of the Pod's PID namespace where the Pod shares one: then it reaps, which
 * the kernel does for who ignores SIGCHLD. It ends when the shim does, because it reads from a pipe of the shim's.
 *
 * pause LIFELINE READY HOSTNAME SHM-BYTES ROOT [SYSCTL=VALUE]...
 *
 * LIFELINE and READY are the descriptors 3 and 4; all others are closed. On READY an error is said in one line; none means all is well. HOSTNAME may be
 * empty, SHM-BYTES 0. ROOT is a folder to mount the new root on: an empty, read-only file system, with the Pod's
 * /dev/shm at /shm.
 *
 * It links nothing: a libc would be most of its memory.
 */

#define SYS(n) __NR_##n
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/if.h>
#include <linux/mount.h>
#include <linux/prctl.h>

typedef unsigned long word;

#if defined(__x86_64__)
static long sys(word n, word a, word b, word c, word d, word e)
{
	long ret;
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return ret;
}
__asm__(".globl _start\n_start: xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call start\n hlt\n");
#elif defined(__aarch64__)
static long sys(word n, word a, word b, word c, word d, word e)
{
	register word x8 __asm__("x8") = n;
	register word x0 __asm__("x0") = a;
	register word x1 __asm__("x1") = b;
	register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d;
	register word x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return (long)x0;
}
__asm__(".globl _start\n_start: mov x29,#0\n mov x0,sp\n and sp,x0,#-16\n bl start\n brk #0\n");
#else
#error "pause knows x86-64 and arm64 only: add the system call and the entry point of this machine"
#endif

#define call(n, a, b, c, d, e) sys(SYS(n), (word)(a), (word)(b), (word)(c), (word)(d), (word)(e))

enum { nobody = 65535, detach = 2 /* MNT_DETACH */, flags_tmpfs = MS_NOSUID | MS_NODEV | MS_NOEXEC };

static int ready;

static word length(const char *s)
{
	word n = 0;
	while (s[n])
		n++;
	return n;
}

static char *append(char *to, const char *s)
{
	while (*s)
		*to++ = *s++;
	*to = 0;
	return to;
}

static char *append_number(char *to, word n)
{
	if (n >= 10)
		to = append_number(to, n / 10);
	*to++ = '0' + n % 10;
	*to = 0;
	return to;
}

static int number(const char *s)
{
	int n = 0, sign = 1;
	if (*s == '-') {
		sign = -1;
		s++;
	}
	while (*s >= '0' && *s <= '9')
		n = n * 10 + (*s++ - '0');
	return sign * n;
}

static void say(const char *what, const char *on, long err)
{
	char line[512], *p = line;
	if (length(on) > 300)
		on = "";
	p = append(append(append(p, what), " "), on);
	p = append_number(append(p, ": errno "), (word)-err);
	call(write, ready, line, p - line, 0, 0);
}

static void check(long ret, const char *what, const char *on)
{
	if (ret >= 0)
		return;
	say(what, on, ret);
	call(exit_group, 1, 0, 0, 0, 0);
}

/* put writes a value into a file that exists. */
static long put(const char *file, const char *value)
{
	long fd = call(openat, AT_FDCWD, file, O_WRONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	long n = call(write, fd, value, length(value), 0, 0);
	call(close, fd, 0, 0, 0, 0);
	return n;
}

/* set_sysctl takes "net.ipv4.ip_forward=1"; a slash instead of a dot keeps a dot in a name. */
static void set_sysctl(const char *setting)
{
	char file[512], *p = append(file, "/proc/sys/");
	const char *value = setting;
	if (length(setting) > 400)
		check(-36, "set sysctl", setting);
	int dots = 1;
	for (const char *s = setting; *s && *s != '='; s++)
		if (*s == '/' || *s == '.') {
			dots = *s == '.';
			break;
		}
	for (; *value && *value != '='; value++)
		*p++ = *value == '.' ? (dots ? '/' : '.') : *value;
	*p = 0;
	if (*value == '=')
		value++;
	check(put(file, value), "set sysctl", setting);
}

/* loopback_up brings lo up. It is no error where that cannot be: a network set-up may do it too. */
static void loopback_up(void)
{
	struct ifreq r = { .ifr_name = "lo" };
	long fd = call(socket, 2 /* AF_INET */, 2 | 02000000 /* SOCK_DGRAM, SOCK_CLOEXEC */, 0, 0, 0);
	if (fd < 0)
		return;
	if (call(ioctl, fd, 0x8913 /* SIOCGIFFLAGS */, &r, 0, 0) == 0) {
		r.ifr_flags |= IFF_UP;
		call(ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &r, 0, 0);
	}
	call(close, fd, 0, 0, 0, 0);
}

/* leave gives up the host's files: the root becomes an empty, read-only file system, with the Pod's shared memory
 * in it. */
static void leave(const char *root, const char *shm_bytes)
{
	char options[64];
	check(call(mount, "", "/", "", MS_REC | MS_PRIVATE, ""), "make private", "/");
	check(call(mount, "tmpfs", root, "tmpfs", flags_tmpfs, "mode=0755,size=4k"), "mount a tmpfs on", root);
	check(call(chdir, root, 0, 0, 0, 0), "go to", root);
	if (shm_bytes[0] != '0') {
		append(append(options, "mode=1777,size="), shm_bytes);
		check(call(mkdirat, AT_FDCWD, "shm", 01777, 0, 0), "make", "shm");
		check(call(mount, "shm", "shm", "tmpfs", flags_tmpfs, options), "mount", "shm");
	}
	if (call(pivot_root, ".", ".", 0, 0, 0) == 0) {
		check(call(umount2, ".", detach, 0, 0, 0), "unmount", "the old root");
	} else { /* an initial RAM file system cannot be pivoted away from */
		check(call(mount, ".", "/", "", MS_MOVE, ""), "move the root from", root);
		check(call(chroot, ".", 0, 0, 0, 0), "change the root to", root);
	}
	check(call(chdir, "/", 0, 0, 0, 0), "go to", "the new root");
	check(call(mount, "", "/", "", flags_tmpfs | MS_REMOUNT | MS_BIND | MS_RDONLY, ""), "make read-only", "/");
}

/* become_nobody leaves pause with no right at all. */
static void become_nobody(void)
{
	check(call(setgroups, 0, 0, 0, 0, 0), "give up", "groups");
	check(call(setresgid, nobody, nobody, nobody, 0, 0), "become", "group nobody");
	check(call(setresuid, nobody, nobody, nobody, 0, 0), "become", "user nobody");
	check(call(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set", "no_new_privs");
}

static void ignore_children(void)
{
	word action[4] = { 1 /* SIG_IGN */, 0, 0, 0 };
	check(call(rt_sigaction, 17 /* SIGCHLD */, action, 0, 8, 0), "ignore", "SIGCHLD");
}

/* forget_origin gives up what came from whoever started the shim: descriptors besides the two that pause needs, and
 * blocked signals. */
static void forget_origin(void)
{
	word none = 0;
	for (int fd = 0; fd <= 2; fd++)
		call(close, fd, 0, 0, 0, 0);
	call(close_range, 5, ~0U, 0, 0, 0);
	call(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none, 0);
}

void start(word *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	if (argc < 6)
		call(exit_group, 2, 0, 0, 0, 0);
	int lifeline = number(argv[1]);
	ready = number(argv[2]);
	forget_origin();
	const char *hostname = argv[3];
	call(prctl, PR_SET_NAME, "pause", 0, 0, 0);
	if (hostname[0])
		check(call(sethostname, hostname, length(hostname), 0, 0, 0), "set hostname", hostname);
	for (int i = 6; i < argc; i++)
		set_sysctl(argv[i]);
	loopback_up();
	leave(argv[5], argv[4]);
	become_nobody();
	ignore_children();
	call(close, ready, 0, 0, 0, 0);
	char c;
	for (;;) {
		long n = call(read, lifeline, &c, 1, 0, 0);
		if (n != -4 /* EINTR */)
			call(exit_group, 0, 0, 0, 0, 0);
	}
}
