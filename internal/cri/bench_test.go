package cri

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// BenchmarkPod times a Pod's steps one Pod at a time: go test -bench Pod -benchtime 20x
func BenchmarkPod(b *testing.B) {
	w := realWorldTB(b)
	took := map[string]time.Duration{}
	step := func(name string, do func() error) {
		begin := time.Now()
		if err := do(); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		took[name] += time.Since(begin)
	}
	n := 0
	for b.Loop() {
		n++
		pod := w.pod(fmt.Sprintf("bench%d", n))
		var sb, id string
		step("run-sandbox", func() (err error) { sb, err = w.api.RunPodSandbox(b.Context(), pod, ""); return err })
		step("create", func() (err error) {
			id, err = w.api.CreateContainer(b.Context(), sb, w.sh("main", "exec sleep 1000"), pod)
			return err
		})
		step("start", func() error { return w.api.StartContainer(b.Context(), id) })
		step("exec", func() error { _, _, err := w.api.ExecSync(b.Context(), id, []string{"true"}, time.Minute); return err })
		if n == 2 {
			b.Logf("memory of a Pod: %s", podMemory(b, w, sb))
		}
		step("stop", func() error { return w.api.StopContainer(b.Context(), id, 0) })
		step("stop-sandbox", func() error { return w.api.StopPodSandbox(b.Context(), sb) })
		step("remove", func() error { return w.api.RemovePodSandbox(b.Context(), sb) })
	}
	for name, d := range took {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(n), name+"-ms")
	}
}

// podMemory is the proportional set size of a sandbox's shim and pause.
func podMemory(tb testing.TB, w *world, sandbox string) string {
	tb.Helper()
	sb, err := w.r.store.sandbox(sandbox)
	if err != nil {
		tb.Fatal(err)
	}
	st, err := sb.shim.State(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for name, pid := range map[string]int{"shim": st.Sandbox.ShimPID, "pause": st.Sandbox.PausePID} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.Contains("Pss Pss_Anon Pss_File Rss", k) {
				out = append(out, name+" "+k+" "+strings.Join(strings.Fields(v), ""))
			}
		}
	}
	return strings.Join(out, ", ")
}
