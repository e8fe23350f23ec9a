//go:build cgo

package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
)

// seccompCache is the file of a compiled seccomp profile on its way to the process that is to be started: the cached
// one, or an empty one for that process to fill. See seccompcache.c.
type seccompCache struct {
	path string
	file *os.File
	made bool
}

// openSeccompCache finds the profile in the folder. It answers with nil, which works as no cache, when there is no
// profile or no folder, and on any error: the cache only saves time.
func openSeccompCache(dir string, profile *configs.Seccomp) *seccompCache {
	if profile == nil || dir == "" {
		return nil
	}
	data, err := json.Marshal(profile)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(data)
	c := &seccompCache{path: filepath.Join(dir, hex.EncodeToString(sum[:])+".bpf")}
	if c.file, err = os.Open(c.path); err == nil {
		return c
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil
	}
	if c.file, err = os.CreateTemp(dir, "*.tmp"); err != nil {
		return nil
	}
	c.made = true
	return c
}

// done keeps a file that the started process filled, and drops one that it did not.
func (c *seccompCache) done() {
	if c == nil {
		return
	}
	defer c.file.Close()
	if !c.made {
		return
	}
	if st, err := c.file.Stat(); err == nil && st.Size() > 0 && os.Rename(c.file.Name(), c.path) == nil {
		return
	}
	_ = os.Remove(c.file.Name())
}

// orNull is the file, or /dev/null for no cache.
func (c *seccompCache) orNull() (*os.File, error) {
	if c == nil {
		return os.Open(os.DevNull)
	}
	return c.file, nil
}
