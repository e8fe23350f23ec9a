package container

import (
	"os"
	"path/filepath"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestMakeMountPoints(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"outer", "second", "folder", "host", "writable", "etc"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", at("outer/up")); err != nil {
		t.Fatal(err)
	}
	mount := func(path, name string, readOnly, made bool) point {
		return point{&runtimeapi.Mount{ContainerPath: path, HostPath: at(name), Readonly: readOnly}, made}
	}
	points := []point{
		mount("/g/p/a", "folder", false, true), mount("/g/p/b", "file", false, true), mount("/g", "outer", true, true),
		mount("/g/p/c/", "second", true, true), mount("/g/p/c/d/e", "folder", false, false), mount("/g/up/../../escaped", "folder", false, true),
		mount("/h", "host", true, false), mount("/h/x", "folder", false, true),
		mount("/w", "writable", false, true), mount("/w/x", "folder", false, true),
		mount("/etc", "etc", true, true), mount("/etc/hosts", "file", false, false),
	}
	for range 2 {
		if err := makeMountPoints(points); err != nil {
			t.Fatal(err)
		}
	}
	for name, folder := range map[string]bool{
		"outer/p/a": true, "outer/p/b": false, "outer/p/c": true, "second/d/e": true,
		"etc/hosts": false, "etc/hostname": false, "etc/resolv.conf": false,
	} {
		if info, err := os.Lstat(at(name)); err != nil || info.IsDir() != folder {
			t.Errorf("%s: %v, want a folder: %v", name, err, folder)
		}
	}
	for _, name := range []string{"host/x", "writable/x", "escaped", "outer/d"} {
		if _, err := os.Lstat(at(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}
