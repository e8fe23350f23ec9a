//go:build cgo

package warm

import (
	_ "github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	_ "github.com/opencontainers/runc/libcontainer/seccomp"
	_ "github.com/opencontainers/runc/libcontainer/specconv"
)
