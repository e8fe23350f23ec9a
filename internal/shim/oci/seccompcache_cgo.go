//go:build cgo && seccomp

package oci

/*
#cgo pkg-config: libseccomp
#include "seccompcache.h"
*/
import "C"

// useSeccompCache takes the file that holds, or is to hold, the compiled seccomp profile.
func useSeccompCache(fd int) { C.seccomp_cache_use(C.int(fd)) }
