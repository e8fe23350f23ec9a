// Package atomicfile replaces files in one step: a reader sees the old or the new content, and a crash of the process
// leaves one of them.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Durability is what a written file survives.
type Durability bool

const (
	// Crash means that the file survives the end of the process, but not of the machine.
	Crash Durability = false
	// PowerCut means that the file is also on the disk before Write returns, and its name in the folder.
	PowerCut Durability = true
)

// Write replaces the file at path, whose folder must exist. Concurrent calls for one path are safe; the last one wins.
// Until the content is complete it has a name that begins with a dot, in the same folder, so readers of a folder must
// ignore such names.
func Write(path string, data []byte, mode os.FileMode, d Durability) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode))
	if d == PowerCut {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if d == PowerCut {
		return syncFolder(dir)
	}
	return nil
}

// syncFolder brings the names in a folder to the disk (fsync(2): a file's own fsync does not).
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the folder %s to the disk: %w", dir, err)
	}
	return nil
}
