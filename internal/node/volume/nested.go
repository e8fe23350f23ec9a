package volume

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	v1 "k8s.io/api/core/v1"
)

// nestedMounts are the paths inside a volume at which a container mounts others.
func nestedMounts(volume string, pod *v1.Pod) []string {
	seen := map[string]bool{}
	var nested []string
	eachContainer(pod, func(c *v1.Container) {
		for _, outer := range c.VolumeMounts {
			if outer.Name != volume || outer.SubPath != "" || outer.SubPathExpr != "" {
				continue
			}
			for _, inner := range c.VolumeMounts {
				at, below := strings.CutPrefix(path.Clean(inner.MountPath), path.Clean(outer.MountPath)+"/")
				if below && innermost(c, outer, inner) && !seen[at] {
					seen[at] = true
					nested = append(nested, at)
				}
			}
		}
	})
	return nested
}

// innermost reports whether no third mount lies between two: its volume would be where the path is needed.
func innermost(c *v1.Container, outer, inner v1.VolumeMount) bool {
	for _, between := range c.VolumeMounts {
		p := path.Clean(between.MountPath) + "/"
		if strings.HasPrefix(path.Clean(inner.MountPath), p) && strings.HasPrefix(p, path.Clean(outer.MountPath)+"/") &&
			p != path.Clean(outer.MountPath)+"/" {
			return false
		}
	}
	return true
}

// makeNested makes the folders that those mounts lie in. They are folders of the volume's own, so that a new content
// of the volume does not take them away below a mount; what the volume shows in them is linked one by one. The places
// of the mounts themselves are made when the container is.
func makeNested(dir string, nested []string) error {
	for _, p := range nested {
		if path.Dir(p) == "." || isLink(filepath.Join(dir, firstPart(p))) {
			continue
		}
		if err := pathrs.MkdirAll(dir, path.Dir(p), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// isFolder reports whether there is a folder, not a link to one.
func isFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
