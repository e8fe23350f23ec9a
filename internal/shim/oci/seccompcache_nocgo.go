//go:build cgo && !seccomp

package oci

import (
	"errors"

	"github.com/opencontainers/runc/libcontainer/configs"
)

func useSeccompProgram(int) {}

func compile(*configs.Seccomp) ([]byte, error) {
	return nil, errors.New("built without libseccomp")
}
