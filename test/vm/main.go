// Command vm runs tests in a small machine of its own, made by QEMU from Debian's kernel and a file system that
// is built for it. The tests run as root, change nothing on this machine, and have only cgroup v2 and real
// reboots.
//
//	go run ./test/vm            all
//	go run ./test/vm -suite internal/cgroup -run TestKill
//
// It needs bin/podium (`make build`), and QEMU and the kernel package (`hack/setup.sh vm`).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"podium.dev/podium/test/vm/plan"
)

// limits are the end-to-end tests that depend on the cgroup version, and the first steps of the README. Tests
// that measure time are left out, because the machine is slow.
const limits = "^(TestTutorial|TestExec|TestLogs|TestCopy|TestCgroupTree|TestOutOfMemory|TestExitReasons|TestResize|TestTop|" +
	"TestEmptyDirs|TestStorageLimits|TestMemoryPressure|TestPIDPressure|TestProcessesKilled|TestDaemonKilled|TestUpStopUpDown|TestDownAndUpAgain)$"

// What -suite may name besides a folder, and the scenario of the suites.
const (
	restartsName = "restarts"
	allSuites    = "suites"
)

// suites are the test packages that run in the machine.
var suites = []suite{
	{dir: "internal/cgroup", timeout: 2 * time.Minute},
	{dir: "internal/node/container", run: "Cgroups", timeout: 2 * time.Minute},
	{dir: "internal/network", timeout: 4 * time.Minute},
	{dir: "internal/shim/client", timeout: 4 * time.Minute},
	{dir: "internal/cri", timeout: 10 * time.Minute},
	{dir: "test/e2e", run: limits, timeout: 20 * time.Minute},
}

// QEMU ends with the thread that started it (PR_SET_PDEATHSIG), so that thread must stay alive.
func init() { runtime.LockOSThread() }

func main() {
	only := flag.String("suite", "", "run only the tests of this folder, or `restarts` for those that restart the machine")
	run := flag.String("run", "", "run only the tests that match, like -run of go test")
	packages := flag.String("kernel", filepath.Join("bin", "vm"), "the folder with the kernel package")
	flag.Parse()
	ok, err := drive(*only, *run, *packages)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// drive builds the machine and runs the requested tests. ok reports whether all of them passed.
func drive(only, run, packages string) (ok bool, err error) {
	chosen := choose(suites, only, run)
	if len(chosen) == 0 {
		return false, fmt.Errorf("unknown suite %q", only)
	}
	dir, err := os.MkdirTemp("", "podium-vm-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	m, err := assemble(dir, packages, chosen)
	if err != nil {
		return false, err
	}
	built := processorTime()
	fmt.Printf("built in %v\n", time.Since(began).Round(100*time.Millisecond))

	r := newReport(os.Stdout)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if only != restartsName {
		if err := m.run(ctx, allSuites, nil, func(line string) error { r.line(line); return nil }); err != nil {
			r.broken(err)
		}
	}
	if only == "" && run == "" || only == restartsName {
		if err := restarts(ctx, m, filepath.Join(dir, "disk"), r); err != nil {
			r.broken(err)
		}
	}
	if r.failed > 0 {
		keepConsole(m.console, packages)
	}
	fmt.Printf("took %v, and the machine %v of processor time\n", time.Since(began).Round(time.Second), (processorTime() - built).Round(time.Second))
	fmt.Println(r.summary())
	return r.failed == 0, nil
}

// processorTime returns the processor time of the programs that this one has run.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// choose returns the suites of a folder, or all, restricted to the tests to run.
func choose(all []suite, only, run string) []suite {
	var out []suite
	for _, s := range all {
		if only != "" && s.dir != only && !(only == restartsName && s.dir == "test/e2e") {
			continue
		}
		if run != "" {
			s.run = run
		}
		out = append(out, s)
	}
	return out
}

// assemble builds all parts of a machine in a folder.
func assemble(dir, packages string, chosen []suite) (machine, error) {
	m := machine{initramfs: filepath.Join(dir, "initramfs"), console: filepath.Join(dir, "console.log"), memory: 3072, patience: 35 * time.Minute}
	k, err := unpackKernel(packages, filepath.Join(dir, "kernel"))
	if err != nil {
		return m, err
	}
	m.kernel = k.image
	b, err := build(".", dir, chosen)
	if err != nil {
		return m, err
	}
	p := plan.Plan{Scenarios: restartSteps()}
	for _, s := range chosen {
		p.Scenarios[allSuites] = append(p.Scenarios[allSuites], s.step())
	}
	return m, writeInitramfs(m.initramfs, ".", k, b, p)
}

// keepConsole copies the kernel's messages to the folder of the kernel package.
func keepConsole(console, to string) {
	text, err := os.ReadFile(console)
	kept := filepath.Join(to, "console.log")
	if err = errors.Join(err, os.WriteFile(kept, text, 0o644)); err != nil {
		fmt.Println("keep the console's log:", err)
		return
	}
	const end = 3000
	if len(text) > end {
		text = text[len(text)-end:]
	}
	fmt.Printf("the end of the machine's console, which is kept in %s:\n%s\n", kept, text)
}
