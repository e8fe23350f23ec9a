//go:build cgo && seccomp

package oci

/*
#cgo pkg-config: libseccomp
#include "seccompcache.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
)

// useSeccompProgram reads the file that holds the compiled seccomp profile, if it holds one.
func useSeccompProgram(fd int) { C.seccomp_cache_use(C.int(fd)) }

// compile returns the compiled profile for seccompProgram's file. libcontainer knows how a profile is described to
// libseccomp only together with its use, so that is begun and given up when the program is there.
func compile(profile *configs.Seccomp) ([]byte, error) {
	f, err := memoryFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	C.seccomp_cache_compile(C.int(f.Fd()))
	_, given := seccomp.InitSeccomp(profile)
	C.seccomp_cache_compile(-1)
	program, err := io.ReadAll(io.NewSectionReader(f, 0, maxSeccompProgram))
	if err != nil {
		return nil, err
	}
	if given == nil {
		return nil, errors.New("the seccomp profile is in use here") // not reached: see __wrap_seccomp_export_bpf
	}
	if len(program) == 0 {
		return nil, fmt.Errorf("compile the seccomp profile: %w", given)
	}
	return program, nil
}
