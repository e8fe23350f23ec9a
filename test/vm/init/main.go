// Command init is the first process of the test machine. It sets up the machine, runs the steps of a scenario
// and turns the machine off. It reports through the port that the driver reads.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/test/vm/plan"
)

// steps is the argument with which this program starts itself to run the steps, so that the first process only
// reaps.
const steps = "steps"

func main() {
	if len(os.Args) > 1 && os.Args[1] == steps {
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, "init:", err)
			os.Exit(1)
		}
		return
	}
	if err := first(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err) // the kernel's console
	}
	shutDown()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// first sets up the machine, starts the steps and reaps every process until the steps have ended.
func first() error {
	p, scenario, err := prepare()
	if err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	fmt.Fprintln(port, plan.Mark{Kind: plan.Up, Name: scenario, Took: uptime()})
	worker, err := os.StartProcess("/proc/self/exe", []string{"init", steps}, &os.ProcAttr{
		Dir: "/", Env: environment(), Files: []*os.File{nil, port, port},
	})
	if err != nil {
		return fmt.Errorf("start the steps of one of %d scenarios: %w", len(p.Scenarios), err)
	}
	for {
		pid, status, err := reap()
		if err != nil {
			return fmt.Errorf("reap: %w", err)
		}
		if pid == worker.Pid && status.ExitStatus() != 0 {
			return fmt.Errorf("the steps exited with code %d", status.ExitStatus())
		}
		if pid == worker.Pid {
			return nil
		}
	}
}

// reap waits until any process ends.
func reap() (pid int, status syscall.WaitStatus, err error) {
	for {
		pid, err = syscall.Wait4(-1, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return pid, status, err
		}
	}
}

// shutDown ends all processes and unmounts the disk, like the first process of a distribution.
func shutDown() {
	_ = unix.Kill(-1, unix.SIGTERM)
	defer time.AfterFunc(5*time.Second, func() { _ = unix.Kill(-1, unix.SIGKILL) }).Stop()
	for {
		if _, _, err := reap(); err != nil {
			break // none is left
		}
	}
	if err := unix.Unmount("/disk", 0); err != nil && err != unix.EINVAL {
		fmt.Fprintln(os.Stderr, "init: unmount the disk:", err)
	}
	unix.Sync()
}

// environment returns the environment of every program of the machine: the usual variables, and the KEY=VALUE
// words of the kernel's command line that mean nothing to the kernel.
func environment() []string {
	return append(os.Environ(), "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TMPDIR=/tmp", "TERM=linux")
}

// work runs the steps one after the other.
func work() error {
	p, scenario, err := load()
	if err != nil {
		return err
	}
	for _, s := range p.Scenarios[scenario] {
		fmt.Println(plan.Mark{Kind: plan.Start, Name: s.Name})
		began := time.Now()
		end := plan.Mark{Kind: plan.End, Name: s.Name}
		if err := run(s); err != nil {
			end.Err = err.Error()
		}
		end.Took = time.Since(began).Round(time.Millisecond)
		fmt.Println(end)
	}
	fmt.Println(plan.Mark{Kind: plan.Off, Name: scenario})
	return nil
}

// run runs a step and kills it after its time-out.
func run(s plan.Step) error {
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(s.Timeout, func() {
		_ = cmd.Process.Signal(unix.SIGQUIT) // makes Go programs print their stacks
		time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	})
	err := cmd.Wait()
	if !timer.Stop() {
		return fmt.Errorf("killed after %v", s.Timeout)
	}
	return err
}

// load reads the plan and the name of the scenario.
func load() (p plan.Plan, scenario string, err error) {
	text, err := os.ReadFile(plan.Path)
	if err != nil {
		return p, "", err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, "", fmt.Errorf("read %s: %w", plan.Path, err)
	}
	words, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return p, "", err
	}
	for _, w := range strings.Fields(string(words)) {
		if name, ok := strings.CutPrefix(w, plan.ScenarioFlag+"="); ok {
			scenario = name
		}
	}
	if _, ok := p.Scenarios[scenario]; !ok {
		return p, "", fmt.Errorf("the plan has no scenario %q", scenario)
	}
	return p, scenario, nil
}
