package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// statusOut is where progress is reported.
var statusOut io.Writer = os.Stderr

// results are all figures of a run.
type results struct {
	alone, byPods []decisions
	through       []throughput
	room          []latencies
	memory        []memory
}

// decisions are the durations of decisions, sorted.
type decisions struct {
	workload    string
	nodes, pods int
	took        []time.Duration
}

// throughput is the scheduling of Pods through the API.
type throughput struct {
	workload                   string
	floor, nodes, before, pods int
	created, took              time.Duration
}

// rate returns Pods per second, from the first binding to the last.
func (t throughput) rate() float64 { return float64(t.pods-1) / t.took.Seconds() }

// making returns how long the API server took to create a Pod, with several concurrent requests.
func (r *results) making() time.Duration {
	var sum time.Duration
	pods := 0
	for _, t := range r.through {
		sum, pods = sum+t.created, pods+t.pods
	}
	return sum / time.Duration(max(pods, 1))
}

// latencies are durations, sorted.
type latencies struct {
	name  string
	nodes int
	took  []time.Duration
}

type memory struct {
	what        string
	nodes, pods int
	bytes       int64
}

// at returns the p-th percentile of sorted durations.
func at(took []time.Duration, p int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return took[min(len(took)*p/100, len(took)-1)]
}

func mean(took []time.Duration) time.Duration {
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	return sum / time.Duration(max(len(took), 1))
}

// names returns the workloads in the order of the table.
func names() []string {
	var out []string
	for _, w := range workloads {
		out = append(out, w.name)
	}
	return out
}

// The figures in the document are between these two lines.
const begin, end = "<!-- figures: make bench-scheduler -->\n", "<!-- end of figures -->\n"

// markdown formats the tables.
func (r *results) markdown(o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores, load average at the end of the run %s.\n\n", runtime.NumCPU(), load())
	r.writeThrough(&b, o)
	r.writeAlone(&b)
	if len(r.room) > 0 {
		fmt.Fprintf(&b, "**Room appears → the waiting Pod is bound** (from before the request to the watch event, %d nodes, %d rounds):\n\n", r.room[0].nodes, rounds)
		fmt.Fprint(&b, "| room | median | p99 |\n|---|---|---|\n")
		for _, l := range r.room {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", l.name, ms(at(l.took, 50)), ms(at(l.took, 99)))
		}
		fmt.Fprintln(&b)
	}
	if len(r.memory) > 0 {
		fmt.Fprint(&b, "**Memory** (PSS of the process):\n\n| process | nodes | Pods | memory |\n|---|---|---|---|\n")
		for _, m := range r.memory {
			fmt.Fprintf(&b, "| %s | %d | %d | %d MB |\n", m.what, m.nodes, m.pods, m.bytes/1_000_000)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

func (r *results) writeThrough(b *strings.Builder, o options) {
	if len(r.through) == 0 {
		return
	}
	fmt.Fprintf(b, "**Scheduled Pods per second through the API** (decide, bind, event, watch; API server, store and bench on the same cores; %d Pods\nthat were created before, which took %s per Pod):\n\n| workload |", o.pods, ms(r.making()))
	for _, n := range o.sizes {
		fmt.Fprintf(b, " %d nodes |", n)
	}
	fmt.Fprintf(b, " floor at 5 000 |\n|---|%s\n", strings.Repeat("---|", len(o.sizes)+1))
	for _, name := range names() {
		row, floor := fmt.Sprintf("| %s |", name), ""
		for _, n := range o.sizes {
			i := slices.IndexFunc(r.through, func(t throughput) bool { return t.workload == name && t.nodes == n })
			if i < 0 {
				row += " |"
				continue
			}
			row += fmt.Sprintf(" %.0f |", r.through[i].rate())
			if r.through[i].floor > 0 {
				floor = fmt.Sprint(r.through[i].floor)
			}
		}
		fmt.Fprintf(b, "%s %s |\n", row, floor)
	}
	fmt.Fprintln(b)
}

func (r *results) writeAlone(b *strings.Builder) {
	fmt.Fprint(b, "**One decision, the scheduler alone** (median / p99; in brackets decisions per second):\n\n| workload |")
	for _, n := range aloneSizes {
		fmt.Fprintf(b, " %d nodes |", n)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(aloneSizes)))
	for _, name := range names() {
		row := ""
		for _, d := range r.alone {
			if d.workload == name {
				row += fmt.Sprintf(" %s / %s (%.0f) |", ms(at(d.took, 50)), ms(at(d.took, 99)), 1/mean(d.took).Seconds())
			}
		}
		if row != "" {
			fmt.Fprintf(b, "| %s |%s\n", name, row)
		}
	}
	fmt.Fprintf(b, "\n**The same on %d nodes, by the number of Pods**:\n\n| workload |", podsNodes)
	for _, n := range alonePods {
		fmt.Fprintf(b, " %d Pods |", n)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(alonePods)))
	for _, name := range names() {
		row := ""
		for _, d := range r.byPods {
			if d.workload == name {
				row += fmt.Sprintf(" %s / %s |", ms(at(d.took, 50)), ms(at(d.took, 99)))
			}
		}
		if row != "" {
			fmt.Fprintf(b, "| %s |%s\n", name, row)
		}
	}
	fmt.Fprintln(b)
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

// replaceTables replaces the tables in the document.
func replaceTables(path, tables string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(text, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s: the lines %q and %q around the figures are missing", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, slices.Concat(head, []byte(begin), []byte(tables), []byte(end), tail), 0o644)
}
