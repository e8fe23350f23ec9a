//go:build cgo && seccomp

/* A seccomp profile is compiled once. libseccomp takes some 20 ms to compile the default profile, more than all else
 * that starting a container takes, and libcontainer has it done for every process. So the calls that describe a
 * profile are recorded (the linker's --wrap leads them here), and when the recording is byte for byte the one that a
 * cached program was compiled from, that program is the result; otherwise the calls are made after all.
 *
 * The process that uses a program is in the container's reach, so it only reads one, from a sealed file. A program is
 * compiled outside, by the process that starts that one: it makes the same calls, and the export writes the file
 * and fails, so that the profile is not put to use there.
 *
 * The file holds one profile:
 *
 *   magic, length of the recording, length of the program, recording, program
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seccompcache.h"

/* Weak, so that a build without the wrapping links too; then nothing here is called. */
extern scmp_filter_ctx __real_seccomp_init(uint32_t action) __attribute__((weak));
extern int __real_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch) __attribute__((weak));
extern int __real_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value) __attribute__((weak));
extern int __real_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int n,
					 const struct scmp_arg_cmp *args) __attribute__((weak));
extern int __real_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int n,
					       const struct scmp_arg_cmp *args) __attribute__((weak));
extern int __real_seccomp_export_bpf(scmp_filter_ctx ctx, int fd) __attribute__((weak));

static const uint64_t magic = 0x3170666362646f70; /* "podbcfp1" */

struct header {
	uint64_t magic;
	uint32_t recorded, compiled;
};

enum kind { kind_init = 1, kind_arch, kind_attr, kind_rule, kind_exact_rule };

struct record {
	uint32_t kind, a, b, n;
};

struct buffer {
	unsigned char *data;
	size_t len, cap;
};

static int compile_to = -1;     /* the file to write, when this process compiles */
static struct buffer cached;    /* the whole file, empty when there is none */
static struct buffer recording; /* the calls so far */
static int failed;              /* memory was short: do without the cache */

static void add(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len > b->cap) {
		size_t cap = (b->len + len) * 2;
		void *more = realloc(b->data, cap);
		if (!more) {
			failed = 1;
			return;
		}
		b->data = more;
		b->cap = cap;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void note(enum kind kind, uint32_t a, uint32_t b, uint32_t n, const struct scmp_arg_cmp *args)
{
	struct record r = { kind, a, b, n };
	add(&recording, &r, sizeof r);
	for (uint32_t i = 0; i < n; i++) {
		struct scmp_arg_cmp arg; /* without the padding's garbage */
		memset(&arg, 0, sizeof arg);
		arg.arg = args[i].arg;
		arg.op = args[i].op;
		arg.datum_a = args[i].datum_a;
		arg.datum_b = args[i].datum_b;
		add(&recording, &arg, sizeof arg);
	}
}

/* seccomp_cache_use reads the file. */
void seccomp_cache_use(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct header))
		return;
	unsigned char *data = malloc(st.st_size);
	if (data && pread(fd, data, st.st_size, 0) == st.st_size) {
		cached.data = data;
		cached.len = st.st_size;
	}
}

/* seccomp_cache_compile has the next export write the file, or no longer when fd is negative. */
void seccomp_cache_compile(int fd)
{
	compile_to = fd;
}

/* active reports whether calls are recorded and held back. */
static int active(void)
{
	return !failed && (compile_to >= 0 || cached.len > 0);
}

/* hit returns the cached program of exactly the recorded calls, or NULL. */
static const unsigned char *hit(uint32_t *len)
{
	struct header h;
	if (failed || cached.len < sizeof h)
		return NULL;
	memcpy(&h, cached.data, sizeof h);
	if (h.magic != magic || h.recorded != recording.len || h.compiled == 0 ||
	    cached.len != sizeof h + (size_t)h.recorded + h.compiled ||
	    memcmp(cached.data + sizeof h, recording.data, recording.len) != 0)
		return NULL;
	*len = h.compiled;
	return cached.data + sizeof h + h.recorded;
}

/* replay makes the recorded calls that were held back. */
static int replay(scmp_filter_ctx ctx)
{
	size_t at = 0;
	while (at + sizeof(struct record) <= recording.len) {
		struct record r;
		memcpy(&r, recording.data + at, sizeof r);
		at += sizeof r;
		const struct scmp_arg_cmp *args = (const struct scmp_arg_cmp *)(recording.data + at);
		at += r.n * sizeof *args;
		int ret = 0;
		if (r.kind == kind_rule)
			ret = __real_seccomp_rule_add_array(ctx, r.a, (int)r.b, r.n, r.n ? args : NULL);
		else if (r.kind == kind_exact_rule)
			ret = __real_seccomp_rule_add_exact_array(ctx, r.a, (int)r.b, r.n, r.n ? args : NULL);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int write_all(int fd, const unsigned char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -errno;
		data += n;
		len -= n;
	}
	return 0;
}

/* keep writes the file with the program that fd holds. */
static int keep(int fd)
{
	struct stat st;
	unsigned char *program = NULL;
	int ret = -EIO;
	if (fstat(fd, &st) == 0 && (program = malloc(st.st_size)) && pread(fd, program, st.st_size, 0) == st.st_size) {
		struct header h = { magic, recording.len, st.st_size };
		ret = write_all(compile_to, (const unsigned char *)&h, sizeof h);
		if (ret == 0)
			ret = write_all(compile_to, recording.data, recording.len);
		if (ret == 0)
			ret = write_all(compile_to, program, st.st_size);
	}
	free(program);
	return ret;
}

scmp_filter_ctx __wrap_seccomp_init(uint32_t action)
{
	const struct scmp_version *v = seccomp_version();
	recording.len = 0;
	note(kind_init, action, v ? v->major << 16 | v->minor << 8 | v->micro : 0, 0, NULL);
	return __real_seccomp_init(action);
}

int __wrap_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch)
{
	note(kind_arch, arch, 0, 0, NULL);
	return __real_seccomp_arch_add(ctx, arch);
}

int __wrap_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value)
{
	note(kind_attr, attr, value, 0, NULL);
	return __real_seccomp_attr_set(ctx, attr, value);
}

int __wrap_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int n,
				  const struct scmp_arg_cmp *args)
{
	if (!active())
		return __real_seccomp_rule_add_array(ctx, action, syscall, n, args);
	note(kind_rule, action, syscall, n, args);
	return failed ? -ENOMEM : 0;
}

int __wrap_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int n,
					const struct scmp_arg_cmp *args)
{
	if (!active())
		return __real_seccomp_rule_add_exact_array(ctx, action, syscall, n, args);
	note(kind_exact_rule, action, syscall, n, args);
	return failed ? -ENOMEM : 0;
}

int __wrap_seccomp_export_bpf(scmp_filter_ctx ctx, int fd)
{
	if (!active())
		return __real_seccomp_export_bpf(ctx, fd);
	uint32_t len;
	const unsigned char *program = hit(&len);
	if (program)
		return write_all(fd, program, len);

	int ret = replay(ctx);
	if (ret < 0)
		return ret;
	if (compile_to < 0)
		return __real_seccomp_export_bpf(ctx, fd);
	int copy = memfd_create("seccomp", MFD_CLOEXEC);
	if (copy < 0)
		return -errno;
	ret = __real_seccomp_export_bpf(ctx, copy);
	if (ret == 0)
		ret = keep(copy);
	close(copy);
	return ret < 0 ? ret : -ECANCELED;
}
