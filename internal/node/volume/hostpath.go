package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "k8s.io/api/core/v1"
)

// hostKinds are what types of hostPath call what they want.
var hostKinds = map[v1.HostPathType]string{
	v1.HostPathDirectory:         "directory",
	v1.HostPathDirectoryOrCreate: "directory",
	v1.HostPathFile:              "file",
	v1.HostPathFileOrCreate:      "file",
	v1.HostPathSocket:            "socket file",
	v1.HostPathCharDev:           "character device",
	v1.HostPathBlockDev:          "block device",
}

// checkHostPath checks that a path of the host is what the type says, and makes it where the type allows
// that. Without a type nothing is checked.
func checkHostPath(path string, kind *v1.HostPathType) error {
	if kind == nil || *kind == v1.HostPathUnset {
		return nil
	}
	expected, ok := hostKinds[*kind]
	if !ok {
		return fmt.Errorf("%s is an invalid volume type", *kind)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch *kind {
		case v1.HostPathDirectoryOrCreate:
			return os.MkdirAll(path, 0o755)
		case v1.HostPathFileOrCreate:
			return makeFile(path)
		}
		return fmt.Errorf("hostPath type check failed, %s is not a %s, unable to determine its type: path %q does not exist", path, expected, path)
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed, %s is not a %s, unable to determine its type: %w", path, expected, err)
	}
	actual := hostType(info.Mode())
	if hostKinds[actual] == expected {
		return nil
	}
	return fmt.Errorf("hostPath type check failed: %s is not a %s, it's a %s", path, expected, actual)
}

func makeFile(path string) error {
	// O_EXCL never opens what somebody has put there meanwhile, which might block.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func hostType(mode fs.FileMode) v1.HostPathType {
	switch {
	case mode.IsDir():
		return v1.HostPathDirectory
	case mode&fs.ModeSocket != 0:
		return v1.HostPathSocket
	case mode&fs.ModeCharDevice != 0:
		return v1.HostPathCharDev
	case mode&fs.ModeDevice != 0:
		return v1.HostPathBlockDev
	case mode.IsRegular():
		return v1.HostPathFile
	}
	return v1.HostPathUnset
}
