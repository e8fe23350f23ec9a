//go:build cgo

package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/util/atomicfile"
)

// maxSeccompProgram bounds a cached program with the recording it was compiled from. The kernel takes 4096
// instructions of 8 bytes (BPF_MAXINSNS); the recording of the default profile, some 450 rules, is below 50 KiB.
const maxSeccompProgram = 1 << 20

// seccompProgram returns a file with the compiled profile for the process that is to be started, which is in the
// container's reach: other processes of the container may open its descriptors again, for writing, if they have
// CAP_SYS_PTRACE. So the file is a copy in memory that is sealed, and what is kept in dir for the next container was
// compiled here, outside. It is empty when there is no profile, and on any error: the cache only saves time.
func seccompProgram(dir string, profile *configs.Seccomp) (*os.File, error) {
	if profile == nil || dir == "" {
		return sealedFile(nil)
	}
	path, err := seccompPath(dir, profile)
	if err != nil {
		return sealedFile(nil)
	}
	program, err := readProgram(path)
	if err != nil {
		if program, err = compile(profile); err != nil {
			return sealedFile(nil)
		}
		_ = writeProgram(path, program)
	}
	return sealedFile(program)
}

// seccompPath names a profile's file by the profile.
func seccompPath(dir string, profile *configs.Seccomp) (string, error) {
	data, err := json.Marshal(profile)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return filepath.Join(dir, hex.EncodeToString(sum[:])+".program"), nil
}

// readProgram reads a file that writeProgram wrote: the content after its checksum. A file of any other content, which
// a power cut may leave, is an error.
func readProgram(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSeccompProgram+1))
	if err != nil {
		return nil, err
	}
	if len(data) <= sha256.Size || len(data) > maxSeccompProgram {
		return nil, fmt.Errorf("%s has %d bytes", path, len(data))
	}
	sum := sha256.Sum256(data[sha256.Size:])
	if !bytes.Equal(sum[:], data[:sha256.Size]) {
		return nil, fmt.Errorf("%s does not match its checksum", path)
	}
	return data[sha256.Size:], nil
}

// writeProgram replaces the file of a program in one step.
func writeProgram(path string, program []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	return atomicfile.Write(path, append(sum[:], program...), 0o600, atomicfile.Crash)
}

// memoryFile makes a file in memory that can be sealed and never run.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp")
	if err := f.Chmod(0o400); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sealedFile is a file in memory whose content nobody can change.
func sealedFile(content []byte) (*os.File, error) {
	f, err := memoryFile()
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(content); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make a sealed file: %w", err)
	}
	return f, nil
}
