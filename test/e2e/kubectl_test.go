package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kubectlCommand is kubectl in the namespace, not yet started.
func (s *space) kubectlCommand(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, binary(), append([]string{"--root", s.node.paths.Root, "kubectl", "--namespace", s.ns}, args...)...)
	cmd.Env = without(append(os.Environ(), "HOME="+s.node.paths.Root), "KUBECONFIG=") // kubectl's cache
	return cmd
}

// try runs kubectl in the namespace and answers with all that it printed.
func (s *space) try(args ...string) (string, error) {
	return s.tryInput("", args...)
}

func (s *space) tryInput(stdin string, args ...string) (string, error) {
	cmd := s.kubectlCommand(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func without(env []string, prefix string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// kubectl runs kubectl in the namespace; it must succeed.
func (s *space) kubectl(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// says runs kubectl in the namespace; it must succeed and print every one of the texts.
func (s *space) says(args []string, texts ...string) {
	s.Helper()
	out := s.kubectl(args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.Errorf("kubectl %s printed\n%s\nand not %q", strings.Join(args, " "), out, text)
		}
	}
}

// refused runs kubectl in the namespace; it must fail and print every one of the texts.
func (s *space) refused(args []string, texts ...string) {
	s.Helper()
	s.refusedInput("", args, texts...)
}

func (s *space) refusedInput(stdin string, args []string, texts ...string) {
	s.Helper()
	out, err := s.tryInput(stdin, args...)
	if err == nil {
		s.Errorf("kubectl %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.Errorf("kubectl %s printed\n%s\nand not %q", strings.Join(args, " "), out, text)
		}
	}
}

// apply creates what a manifest describes.
func (s *space) apply(manifest string) {
	s.Helper()
	if out, err := s.tryInput(manifest, "create", "-f", "-"); err != nil {
		s.Fatalf("kubectl create: %v\n%s", err, out)
	}
}

// podium runs another verb of the binary on the node; it must succeed.
func (s *space) podium(args ...string) string {
	s.Helper()
	out, err := s.tryPodium(args...)
	if err != nil {
		s.Fatalf("podium %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *space) tryPodium(args ...string) (string, error) {
	out, err := exec.CommandContext(s.ctx, binary(), append(args, "--root", s.node.paths.Root)...).CombinedOutput()
	return string(out), err
}

// session is a kubectl that goes on: a watch, a followed log, a terminal.
type session struct {
	s     *space
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	all   []string
}

// start starts kubectl in the namespace; it is ended with the test at the latest.
func (s *space) start(args ...string) *session {
	s.Helper()
	cmd := s.kubectlCommand(args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	return s.started(cmd, in, out, theirs)
}

// startTerminal starts kubectl with a terminal as a user has it.
func (s *space) startTerminal(args ...string) *session {
	s.Helper()
	ours, theirs, err := terminal()
	if err != nil {
		s.Fatal(err)
	}
	cmd := s.kubectlCommand(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return s.started(cmd, ours, ours, theirs)
}

func (s *space) started(cmd *exec.Cmd, in io.WriteCloser, out io.ReadCloser, theirs io.Closer) *session {
	s.Helper()
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	theirs.Close()
	k := &session{s: s, cmd: cmd, in: in, lines: make(chan string, 1000)}
	go func() {
		defer close(k.lines)
		defer out.Close()
		for scan := bufio.NewScanner(out); scan.Scan(); {
			k.lines <- strings.TrimSuffix(scan.Text(), "\r")
		}
	}()
	s.Cleanup(func() { k.stop() })
	return k
}

// next answers with the next line; false when it has ended.
func (k *session) next() (string, bool) {
	k.s.Helper()
	select {
	case line, ok := <-k.lines:
		if ok {
			k.all = append(k.all, line)
		}
		return line, ok
	case <-time.After(patience):
		k.s.Fatalf("%v prints nothing more:\n%s", k.cmd.Args, strings.Join(k.all, "\n"))
		return "", false
	}
}

// expect answers with what the pattern finds in the next line that it fits.
func (k *session) expect(pattern string) []string {
	k.s.Helper()
	fit := regexp.MustCompile(pattern)
	for {
		line, ok := k.next()
		if !ok {
			k.s.Fatalf("%v ended with no line like %s:\n%s", k.cmd.Args, pattern, strings.Join(k.all, "\n"))
		}
		if found := fit.FindStringSubmatch(line); found != nil {
			return found
		}
	}
}

// say types a line.
func (k *session) say(line string) {
	k.s.Helper()
	if _, err := fmt.Fprintln(k.in, line); err != nil {
		k.s.Errorf("%v: type %q: %v", k.cmd.Args, line, err)
	}
}

// end waits until it ends by itself.
func (k *session) end() error {
	k.s.Helper()
	for {
		if _, ok := k.next(); !ok {
			return k.cmd.Wait()
		}
	}
}

// stop ends it.
func (k *session) stop() {
	if k.cmd.ProcessState != nil {
		return
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	_ = k.in.Close()
}

// terminal is a new pair of a pseudo-terminal.
func terminal() (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		ours.Close()
	}
	return ours, theirs, err
}
