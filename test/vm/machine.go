package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"podium.dev/podium/test/vm/plan"
)

// machine is a machine that QEMU runs, without acceleration, because nested machines rarely have one that
// works.
type machine struct {
	kernel    string
	initramfs string
	disk      string        // raw; empty if there is none
	console   string        // the file that gets the kernel's messages
	memory    int           // MiB
	patience  time.Duration // for one start
}

// arguments returns QEMU's arguments for one start of the machine. Programs in it get the KEY=VALUE words as
// environment.
func (m machine) arguments(scenario string, environment []string) []string {
	args := []string{
		"-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(m.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.kernel, "-initrd", m.initramfs,
		// A panic restarts the machine at once, which -no-reboot turns into its end.
		"-append", "console=ttyS0 panic=-1 mitigations=off no5lvl nokaslr random.trust_cpu=on cgroup_no_v1=all psi=1 " + plan.ScenarioFlag + "=" + scenario + " " + strings.Join(environment, " "),
		"-serial", "file:" + m.console,
		"-device", "virtio-serial-pci", "-chardev", "stdio,id=port,signal=off", "-device", "virtserialport,chardev=port,name=podium",
	}
	if m.disk != "" {
		args = append(args, "-drive", "file="+m.disk+",format=raw,if=virtio,cache=writeback")
	}
	return args
}

// errCut ends a machine like a power cut. It is not an error of the run.
var errCut = errors.New("power cut")

// run starts the machine and passes each line from its port to line until the machine is off. If line returns
// errCut, the power is cut.
func (m machine) run(ctx context.Context, scenario string, environment []string, line func(string) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(scenario, environment)...)
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe() // kept open: QEMU takes its end for the port's
	if err != nil {
		return err
	}
	defer stdin.Close()
	port, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	off := false
	var stop error
	lines := bufio.NewScanner(port)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && stop == nil {
		text := strings.TrimRight(lines.Text(), "\r")
		if mark, ok := plan.ParseMark(text); ok && mark.Kind == plan.Off {
			off = true
		}
		if stop = line(text); stop != nil {
			cancel()
		}
	}
	err = cmd.Wait()
	switch {
	case errors.Is(stop, errCut):
		return nil
	case stop != nil:
		return stop
	case ctx.Err() != nil:
		return fmt.Errorf("the machine did not finish in time (%w)", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("the machine: %w: %s", err, complaints.String())
	case !off:
		return fmt.Errorf("the machine turned off before it was done; see %s", m.console)
	}
	return lines.Err()
}
