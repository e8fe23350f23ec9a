package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// everyVolume are volumes of every kind that this node mounts, each named after its kind. Those that show a file have
// one named mark, with the name in it.
func (s *space) everyVolume() []corev1.Volume {
	s.Helper()
	host, claimed := s.TempDir(), s.TempDir()
	for dir, name := range map[string]string{host: "host", claimed: "claim"} {
		if err := os.WriteFile(filepath.Join(dir, "mark"), []byte(name), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	s.boundClaim("claim", claimed)
	s.kubectl("create", "configmap", "config", "--from-literal=mark=config")
	s.kubectl("create", "secret", "generic", "secret", "--from-literal=mark=secret")
	marks := []corev1.DownwardAPIVolumeFile{{Path: "mark", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['kind']"}}}
	return []corev1.Volume{
		{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}},
		{Name: "downward", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: marks}}},
		{Name: "projected", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "config"},
				Items: []corev1.KeyToPath{{Key: "mark", Path: "mark"}, {Key: "mark", Path: "p/beside"}}}},
		}}}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}},
		claimVolume("claim", "claim"),
		{Name: "image", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: shellImage}}},
	}
}

// placeIn is where to mount something below a volume: in an image only where it has a folder.
func placeIn(volume string, name string) string {
	if volume == "image" {
		return "etc"
	}
	return "p/" + name
}

// Mounts lie below mounts of every kind, two deep, several side by side, folders and files.
func TestMountsBelowMounts(t *testing.T) {
	s := newSpace(t)
	volumes := s.everyVolume()
	p := shellPod("nest", "exec sleep 3600")
	p.Annotations = map[string]string{"kind": "downward"}
	p.Spec.Volumes = volumes
	var places []string
	marks := map[string]string{}
	mount := func(volume, path, sub string) {
		c := &p.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path, SubPath: sub})
		places = append(places, path)
		switch {
		case sub != "":
			marks[path] = volume
		case volume == "projected":
			marks[path+"/mark"] = "config"
		case volume != "empty" && volume != "memory" && volume != "image":
			marks[path+"/mark"] = volume
		}
	}
	for _, outer := range volumes {
		for _, inner := range volumes {
			top := "/m/" + outer.Name + "-" + inner.Name
			mount(outer.Name, top, "")
			middle := top + "/" + placeIn(outer.Name, "a")
			mount(inner.Name, middle, "")
			mount("config", middle+"/"+placeIn(inner.Name, "deep"), "")
			if outer.Name != "image" {
				mount("secret", top+"/p/b", "")
				mount("secret", top+"/p/file", "mark")
			}
		}
	}
	// The order in the spec is of no matter.
	slices.Reverse(p.Spec.Containers[0].VolumeMounts)
	s.create(p)
	s.awaitRunning("nest")
	table := s.kubectl("exec", "nest", "--", "cat", "/proc/self/mountinfo")
	for _, place := range places {
		if !strings.Contains(table, " "+place+" ") {
			s.Errorf("nothing is mounted at %s", place)
		}
	}
	script := ""
	var paths []string
	for path := range marks {
		paths = append(paths, path)
		script += fmt.Sprintf("cat %s; echo; ", path)
	}
	lines := strings.Split(s.kubectl("exec", "nest", "--", "sh", "-c", script), "\n")
	for i, path := range paths {
		if lines[i] != marks[path] {
			s.Errorf("%s holds %q, want %q", path, lines[i], marks[path])
		}
	}
	beside := "/m/projected-empty/p/beside"
	if got := s.kubectl("exec", "nest", "--", "cat", beside); got != "config" {
		s.Errorf("%s, beside a mount, holds %q", beside, got)
	}
	// A new content of the outer volume shows, and what is mounted below it stays.
	s.kubectl("patch", "configmap", "config", "-p", `{"data":{"mark":"new"}}`)
	s.eventually("the volumes follow", func() error {
		if got := s.kubectl("exec", "nest", "--", "cat", "/m/config-secret/mark", beside, "/m/config-secret/p/a/mark"); got != "newnewsecret" {
			return fmt.Errorf("they show %q", got)
		}
		return nil
	})
}

// The manifest that found it: two ConfigMaps beside each other in a folder of a Secret.
func TestMountsSideBySide(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "configmap", "a", "--from-literal=mark=a")
	s.kubectl("create", "secret", "generic", "g", "--from-literal=mark=g")
	p := shellPod("grafana", "cat /g/mark /g/p/a/mark /g/p/b/mark /etc/hostname; exec sleep 3600")
	config := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "g", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "g"}}},
		{Name: "a", VolumeSource: config}, {Name: "b", VolumeSource: config},
	}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "g", MountPath: "/g"}, {Name: "a", MountPath: "/g/p/a"}, {Name: "b", MountPath: "/g/p/b"},
	}
	s.create(p)
	s.awaitRunning("grafana")
	s.eventually("it reads all three", func() error {
		if out := s.kubectl("logs", "grafana"); out != "gaagrafana\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
}
