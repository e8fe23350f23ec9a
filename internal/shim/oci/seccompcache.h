//go:build cgo && seccomp

void seccomp_cache_use(int fd);
void seccomp_cache_compile(int fd);
