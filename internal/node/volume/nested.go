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

// nestedMounts are the paths inside a volume at which a container mounts others. A container cannot make
// them there itself when it may only read the volume.
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

// makeNested makes those paths in a volume's folder. What the volume itself shows at such a path stays.
func makeNested(dir string, nested []string) error {
	for _, p := range nested {
		if _, err := os.Lstat(filepath.Join(dir, firstPart(p))); err == nil {
			continue
		}
		if err := pathrs.MkdirAll(dir, p, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
