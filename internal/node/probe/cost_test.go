package probe

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// serverFlag in the environment makes the test binary the server that is probed, so that its work is not
// counted as the prober's.
const serverFlag = "PODIUM_PROBE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverFlag) == "" {
		os.Exit(m.Run())
	}
	if err := serveAlone(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveAlone answers on a free port, which it prints, until its input ends.
func serveAlone() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
}

// startServer starts the server in a process of its own and returns its port.
func startServer(b *testing.B) intstr.IntOrString {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverFlag+"=1")
	hold, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { hold.Close(); _ = cmd.Wait() })
	var port int32
	if _, err := fmt.Fscan(out, &port); err != nil {
		b.Fatal(err)
	}
	return intstr.FromInt32(port)
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sockets is how many sockets this process has open.
func sockets() (n int) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// BenchmarkNode probes 500 containers by HTTP every second, each with a request of its own to a server in
// another process, and says what share of a core that takes. Nothing may be left when the Pods are gone.
func BenchmarkNode(b *testing.B) {
	const containers, span = 500, 5 * time.Second
	port := startServer(b)
	goroutines, open := runtime.NumGoroutine(), sockets()
	for b.Loop() {
		var changes atomic.Int32
		m := New(Config{OnChange: func(types.UID) { changes.Add(1) }})
		probe := &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: port}},
			PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 1,
		}
		begun := time.Now()
		for i := range containers {
			p := &v1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i))},
				Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c", LivenessProbe: probe}}},
			}
			// They have not all started in the same moment.
			started := begun.Add(time.Duration(i) * time.Second / containers)
			m.Sync(p, []Target{{Container: "c", ID: "1", StartedAt: started, PodIP: "127.0.0.1"}})
		}
		<-time.After(span / 5)
		before, at := used(b), time.Now()
		<-time.After(span)
		share := float64(used(b)-before) / float64(time.Since(at))
		for i := range containers {
			uid := types.UID(fmt.Sprint(i))
			if o := m.Outcomes(uid)["1"]; !is(o.Live, true) {
				b.Errorf("container %d: %+v", i, o)
			}
			m.Remove(uid)
		}
		if n := changes.Load(); n != containers {
			b.Errorf("%d outcomes changed of %d", n, containers)
		}
		b.ReportMetric(100*share, "%core")
		b.ReportMetric(share*float64(time.Second.Microseconds())/containers, "µs/probe")
	}
	for deadline := time.Now().Add(waiting); runtime.NumGoroutine() > goroutines || sockets() > open; {
		if time.Now().After(deadline) {
			b.Fatalf("left: %d goroutines, %d sockets", runtime.NumGoroutine()-goroutines, sockets()-open)
		}
		<-time.After(time.Millisecond)
	}
}
