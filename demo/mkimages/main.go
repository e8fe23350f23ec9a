// Command mkimages builds the demo's images without a network, from programs of this module and Debian's static
// busybox and bash: podium.local/demo/web:1.14, a web server, and podium.local/demo/shell:1, a shell with the
// usual small tools. They share their lowest layer.
//
//	mkimages DIR    writes DIR/web.tar (OCI layout) and DIR/shell.tar (docker-save)
package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/image/build"
)

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: mkimages DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mkimages:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base, err := baseLayer()
	if err != nil {
		return err
	}
	web, err := program("web")
	if err != nil {
		return err
	}
	curl, err := program("curl")
	if err != nil {
		return err
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	webImage, err := build.Build(build.Image{
		Names: []string{"podium.local/demo/web:1.14"},
		Config: ocispec.ImageConfig{
			Env: env, Cmd: []string{"web"}, StopSignal: "SIGTERM",
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
		Layers: [][]build.File{base, {
			build.Plain("usr/sbin/web", 0o755, web),
			build.Dir("usr/share/nginx", 0o755), build.Dir("usr/share/nginx/html", 0o755),
			build.Plain("usr/share/nginx/html/index.html", 0o644, []byte(indexPage)),
		}},
	})
	if err != nil {
		return fmt.Errorf("build the web image: %w", err)
	}
	shell, files := "/bin/sh", []build.File{build.Plain("usr/bin/curl", 0o755, curl)}
	if bash, err := static("bash-static"); err == nil {
		shell, files = "/bin/bash", append(files, build.Plain("bin/bash", 0o755, bash))
	}
	shellImage, err := build.Build(build.Image{
		Names:       []string{"podium.local/demo/shell:1"},
		Config:      ocispec.ImageConfig{Env: env, Cmd: []string{shell}},
		Compression: build.None,
		Layers:      [][]build.File{base, files},
	})
	if err != nil {
		return fmt.Errorf("build the shell image: %w", err)
	}
	if err := write(filepath.Join(dir, "web.tar"), build.WriteOCI, webImage); err != nil {
		return err
	}
	return write(filepath.Join(dir, "shell.tar"), build.WriteDocker, shellImage)
}

const indexPage = `<!DOCTYPE html>
<html>
<head><title>Welcome to Podium!</title></head>
<body>
<h1>Welcome to Podium!</h1>
<p>This page comes from the demo's web server, running in a Pod.</p>
</body>
</html>
`

// write renames an archive into place once it is complete, because a daemon may be watching the folder.
func write(path string, archive func(io.Writer, ...*build.Built) error, img *build.Built) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".mkimages-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := archive(f, img); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// baseLayer returns the layer that both images share: busybox under all its names, and the files that programs
// expect.
func baseLayer() ([]build.File, error) {
	busybox, err := static("busybox")
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	files := []build.File{
		build.Dir("bin", 0o755), build.Dir("dev", 0o755), build.Dir("etc", 0o755), build.Dir("home", 0o755),
		build.Dir("proc", 0o755), build.Dir("root", 0o700), build.Dir("run", 0o755), build.Dir("sbin", 0o755),
		build.Dir("sys", 0o755), build.Dir("tmp", 0o777|fs.ModeSticky), build.Dir("usr", 0o755), build.Dir("usr/bin", 0o755),
		build.Dir("usr/sbin", 0o755), build.Dir("usr/share", 0o755), build.Dir("var", 0o755), build.Dir("var/log", 0o755),
		build.Dir("var/tmp", 0o777|fs.ModeSticky),
		build.Plain("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")),
		build.Plain("etc/group", 0o644, []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")),
		build.Plain("etc/os-release", 0o644, []byte("ID=podium-demo\nNAME=\"Podium demo\"\nPRETTY_NAME=\"Podium demo image\"\n")),
		build.Plain("bin/busybox", 0o755, busybox),
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files = append(files, build.Symlink("bin/"+name, "busybox"))
		}
	}
	return files, nil
}

// static reads a program of this machine. It returns an error if the program needs shared libraries.
func static(name string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is not installed: apt-get install busybox-static bash-static", name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s needs shared libraries, which the image will not have: apt-get install %s-static", path, strings.TrimSuffix(name, "-static"))
		}
	}
	return raw, nil
}

// program builds one of the demo's programs as a static binary.
func program(name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "mkimages-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "podium.dev/podium/demo/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return os.ReadFile(out)
}
