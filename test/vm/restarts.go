package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"podium.dev/podium/test/vm/plan"
)

// The starts of the machine for the tests of restarts in test/e2e, on one disk, with a reboot after the first
// and a power cut during the second.
const (
	firstStart  = "first-start"
	secondStart = "after-a-reboot"
	thirdStart  = "after-a-power-cut"
)

// enough is how many writes are acknowledged before the power is cut.
const enough = 110

// restartSteps returns the steps of the starts, by scenario.
func restartSteps() map[string][]plan.Step {
	step := func(test string) plan.Step {
		s := suite{dir: "test/e2e", run: "^" + test + "$", timeout: 4 * time.Minute}.step()
		s.Env = append(s.Env, "PODIUM_MACHINE=/disk")
		return s
	}
	return map[string][]plan.Step{
		firstStart:  {step("TestMachineFirst")},
		secondStart: {step("TestMachineRestarted"), step("TestMachineCut")},
		thirdStart:  {step("TestMachineAfterCut")},
	}
}

// restarts starts the machine three times on the same disk.
func restarts(ctx context.Context, m machine, disk string, r *report) error {
	if err := makeDisk(disk); err != nil {
		return err
	}
	m.disk = disk
	plain := func(line string) error { r.line(line); return nil }
	if err := m.run(ctx, firstStart, nil, plain); err != nil {
		return err
	}
	last := 0
	err := m.run(ctx, secondStart, nil, func(line string) error {
		if n, ok := acknowledged(line); ok {
			last = n
			if n == enough {
				return errCut
			}
			return nil
		}
		return plain(line)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "power cut after %d writes\n", last)
	return m.run(ctx, thirdStart, []string{"PODIUM_ACKNOWLEDGED=" + strconv.Itoa(last)}, plain)
}

// acknowledged parses how many writes the node has acknowledged.
func acknowledged(line string) (int, bool) {
	count, ok := strings.CutPrefix(line, "acknowledged ")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(count)
	return n, err == nil
}

// makeDisk creates a sparse, empty disk.
func makeDisk(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = f.Truncate(3 << 30)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("create the disk %s: %w", file, err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", file).CombinedOutput(); err != nil {
		return fmt.Errorf("create a file system on the disk: %w: %s", err, out)
	}
	return nil
}
