package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"podium.dev/podium/internal/app"
	"podium.dev/podium/internal/auth/token"
	"podium.dev/podium/internal/inherit"
	"podium.dev/podium/internal/phase"
)

// A detached daemon reports its start to the `up` that started it through file descriptor reportFD: the lines
// for the user, then readyMark.
const (
	reportEnv = "PODIUM_REPORT_FD"
	reportFD  = 3
	readyMark = "\x00"
)

func newUp(o *options) *cobra.Command {
	var c app.Config
	var detach bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the node: API server, store, scheduler, node agent, runtime",
		Long: "Starts all parts of the node and reports each phase with its time. SIGTERM and SIGINT stop the\n" +
			"daemon and leave the Pods running; the next up on the same root takes them over.",
		Example: "  sudo podium up --detach\n  sudo podium up --root /srv/edge --bind 127.0.0.1:7443",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if c.Paths, err = o.paths(); err != nil {
				return err
			}
			if err := c.Check(); err != nil {
				return codedError{err, exitUsage}
			}
			if err := inherit.Drop(); err != nil {
				return err
			}
			if detach {
				return upDetached(cmd.Context(), c, cmd.OutOrStdout())
			}
			return up(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Bind, "bind", "0.0.0.0:6443", "the address of the API server, as ADDR:PORT")
	f.StringVar(&c.NodeName, "node-name", "", "the node's name (default: the machine's host name in lower case)")
	f.StringVar(&c.PodCIDR, "pod-cidr", "", "the address range of this node's Pods (default: a free /24 of 10.244.0.0/16, kept over restarts)")
	f.StringSliceVar(&c.EtcdServers, "etcd-servers", nil, "URLs of an external etcd to use instead of the embedded one")
	f.StringVar(&c.EtcdCAFile, "etcd-cafile", "", "the CA of the external etcd")
	f.StringVar(&c.EtcdCertFile, "etcd-certfile", "", "the client certificate for the external etcd")
	f.StringVar(&c.EtcdKeyFile, "etcd-keyfile", "", "the key of the client certificate")
	f.DurationVar(&c.MaxTokenLife, "service-account-max-token-expiration", token.DefaultMaxLife, "the longest lifetime of a service-account token; longer requests are shortened")
	f.StringVar(&c.MemoryLimit, "memory-limit", "", "the memory that the daemon may use, for example 2Gi, or 0 for no limit; Pods keep running when it is exceeded (default: a quarter of the machine's memory, at least 1Gi)")
	f.StringVar(&c.RuntimeEndpoint, "container-runtime-endpoint", "", "the CRI socket of another runtime to use instead of Podium's own")
	f.StringSliceVar(&c.Disable, "disable", nil, "the parts that this cluster goes without, separated by commas: "+strings.Join(app.Addons(), ", "))
	f.IntVarP(&c.Verbosity, "v", "v", 0, "the verbosity of ROOT/podium.log, 0 to 9")
	f.BoolVar(&detach, "detach", false, "run in the background and return when the node is Ready")
	return cmd
}

// up runs the daemon in this process until ctx ends.
func up(ctx context.Context, c app.Config, out io.Writer) error {
	began := time.Now()
	detached := os.Getenv(reportEnv) != ""
	if detached {
		os.Unsetenv(reportEnv) // processes that the daemon starts must not inherit it
		out = os.NewFile(reportFD, "report")
	}
	progress := func(r phase.Report) {
		mark := "✓"
		if r.Err != nil {
			mark = "✗"
		}
		fmt.Fprintf(out, "  %s %-22s %6d ms\n", mark, r.Name, r.Took.Milliseconds())
	}
	ready := func() {
		fmt.Fprintf(out, "node %s is Ready after %.2f s; kubeconfig: %s\n", c.NodeName, time.Since(began).Seconds(), c.Paths.AdminKubeconfig)
		if detached {
			fmt.Fprint(out, readyMark)
			out.(io.Closer).Close()
			out = io.Discard
		}
	}
	err := app.Up(ctx, &c, progress, ready)
	if detached && err != nil {
		fmt.Fprintln(out, err)
	}
	return withCode(err)
}

func withCode(err error) error {
	if errors.Is(err, app.ErrAlreadyRunning) {
		return codedError{err, exitRunning}
	}
	return err
}

// upDetached starts this program again as a daemon in a session of its own and passes on its reports. It
// returns when the node is Ready or the daemon has failed.
func upDetached(ctx context.Context, c app.Config, out io.Writer) error {
	// What the daemon would reject is reported by this process, in the user's terminal and with the right exit
	// code.
	if err := app.CheckMachine(ctx, c); err != nil {
		return withCode(err)
	}
	if err := os.MkdirAll(c.Paths.Root, 0o700); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	reports, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	log, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	daemon := exec.Command(self, append(withoutDetach(os.Args[1:]), "--root", c.Paths.Root)...)
	daemon.Env = append(os.Environ(), fmt.Sprintf("%s=%d", reportEnv, reportFD))
	daemon.Stdout, daemon.Stderr = log, log
	daemon.ExtraFiles = []*os.File{theirs}
	daemon.Dir = "/"
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	theirs.Close()
	stop := context.AfterFunc(ctx, func() { _ = daemon.Process.Signal(syscall.SIGTERM) })
	defer stop()

	marked := &markReader{r: reports}
	if _, err := io.Copy(out, marked); err != nil {
		return fmt.Errorf("read the daemon's reports: %w", err)
	}
	if marked.seen {
		return daemon.Process.Release()
	}
	err = daemon.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return codedError{fmt.Errorf("the daemon ended before the node was Ready; its log: %s", c.LogFile()), exit.ExitCode()}
	}
	return err
}

// withoutDetach returns the command line of the daemon itself. The caller adds the root as an absolute path,
// because the daemon runs in another folder.
func withoutDetach(args []string) []string {
	var out []string
	for _, a := range args {
		if a != "--detach" && !strings.HasPrefix(a, "--detach=") {
			out = append(out, a)
		}
	}
	return out
}

// markReader passes text on up to the ready mark, which it removes and ends at.
type markReader struct {
	r    io.Reader
	seen bool
}

func (m *markReader) Read(p []byte) (int, error) {
	if m.seen {
		return 0, io.EOF
	}
	n, err := m.r.Read(p)
	if i := strings.Index(string(p[:n]), readyMark); i >= 0 {
		m.seen = true
		return i, nil
	}
	return n, err
}
