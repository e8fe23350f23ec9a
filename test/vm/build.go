package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"podium.dev/podium/test/pace"
	"podium.dev/podium/test/vm/plan"
)

// slowness is the factor for the time-outs of tests in the emulated machine.
const slowness = "4"

// suite is a package of tests that runs in the machine.
type suite struct {
	dir     string // of the package, relative to the top of the project
	run     string // the tests to run, as go test's -run; empty for all
	skip    string // the tests to leave out
	timeout time.Duration
}

// Paths in the machine.
const (
	binDir   = "podium/bin"
	imageDir = "podium/images"
	testDir  = "podium/src" // the project's folders that tests read, and the tests themselves
)

// binary returns the path of the suite's program in the machine.
func (s suite) binary() string { return path.Join(testDir, s.dir, path.Base(s.dir)+".test") }

// step returns the step that runs the suite.
func (s suite) step() plan.Step {
	args := []string{"/" + s.binary(), "-test.v=test2json", "-test.timeout=" + s.timeout.String(), "-test.parallel=2"}
	if s.run != "" {
		args = append(args, "-test.run="+s.run)
	}
	if s.skip != "" {
		args = append(args, "-test.skip="+s.skip)
	}
	return plan.Step{
		Name: s.dir, Dir: "/" + path.Dir(s.binary()), Args: args, Timeout: s.timeout + time.Minute,
		Env: []string{"PODIUM=/" + binDir + "/podium", "PODIUM_IMAGES=/" + imageDir, pace.Variable + "=" + slowness},
	}
}

// built are the programs and images compiled for the machine.
type built struct {
	init   string
	podium string
	images string            // folder of archives
	tests  map[string]string // by a suite's folder
}

// build compiles everything for the machine into a folder, except for Podium itself, which must be built
// already.
func build(top, to string, suites []suite) (built, error) {
	b := built{init: filepath.Join(to, "init"), images: filepath.Join(to, "images"), podium: os.Getenv("PODIUM"), tests: map[string]string{}}
	if b.podium == "" {
		b.podium = filepath.Join(top, "bin", "podium")
	}
	if _, err := os.Stat(b.podium); err != nil {
		return b, fmt.Errorf("find Podium: %w; build it with `make build`", err)
	}
	commands := [][]string{
		{"build", "-ldflags=-s -w", "-o", b.init, "./test/vm/init"},
		{"run", "./demo/mkimages", b.images},
	}
	for _, s := range suites {
		if b.tests[s.dir] != "" {
			continue
		}
		b.tests[s.dir] = filepath.Join(to, strings.ReplaceAll(s.dir, "/", "-")+".test")
		commands = append(commands, []string{"test", "-c", "-ldflags=-s -w", "-o", b.tests[s.dir], "./" + s.dir})
	}
	for _, args := range commands {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return b, nil
}

// writeInitramfs writes the machine's initial file system.
func writeInitramfs(file, top string, k kernel, b built, p plan.Plan) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	for _, dir := range []string{"dev", "disk", "mnt", "proc", "root", "run", "sys", "var/lib", "var/log", "etc"} {
		a.dir(dir, 0o755)
	}
	a.dir("tmp", 0o1777)
	a.device("dev/console", 0o600, 5, 1)
	a.file("init", b.init)
	if err := addTools(a); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n",
		// A name server that does not exist: the machine has no network.
		"etc/resolv.conf": "nameserver 192.168.77.1\n",
	} {
		a.bytes(name, 0o644, []byte(text))
	}
	for _, m := range k.modules {
		name := "lib/modules/" + filepath.Base(m)
		a.file(name, m)
		p.Modules = append(p.Modules, "/"+name)
	}
	a.file(binDir+"/podium", b.podium)
	a.symlink("bin/podium", "/"+binDir+"/podium")
	a.symlink("bin/kubectl", "podium")
	a.tree(imageDir, b.images)
	a.tree(testDir+"/internal/shim/embedded", filepath.Join(top, "internal", "shim", "embedded"))
	for dir, from := range b.tests {
		a.file(suite{dir: dir}.binary(), from)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a.bytes(strings.TrimPrefix(plan.Path, "/"), 0o644, text)
	return errors.Join(a.close(), w.Flush())
}

// addTools adds the static busybox under all its names.
func addTools(a *archive) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox: %w; `make setup` installs it", err)
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list the applets of %s: %w", busybox, err)
	}
	a.file("bin/busybox", busybox)
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			a.symlink("bin/"+name, "busybox")
		}
	}
	return nil
}
