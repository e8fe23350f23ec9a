package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// results are the figures of one cluster in the order in which they were taken.
type results struct {
	order  []string
	values map[string]string
}

func (r *results) set(what, value string) {
	if r.values == nil {
		r.values = map[string]string{}
	}
	if _, have := r.values[what]; !have {
		r.order = append(r.order, what)
	}
	r.values[what] = value
	fmt.Fprintf(os.Stderr, "%s: %s\n", what, value)
}

// times sets a figure from the times of many rounds: the median and the 99th percentile.
func (r *results) times(what string, all []time.Duration) {
	r.set(what, fmt.Sprintf("%s / %s", milliseconds(percentile(all, 50)), milliseconds(percentile(all, 99))))
}

func (r *results) bytes(what string, n int64) { r.set(what, fmt.Sprintf("%.1f MB", float64(n)/1e6)) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// percentile returns the smallest value such that at least p percent of all values are not larger.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)*p+99)/100-1]
}

func printTable(w io.Writer, ours, theirs *results) {
	other := len(theirs.order) > 0
	if other {
		fmt.Fprintln(w, "| what (median / p99 where there are two) | Podium | other cluster |\n|---|---|---|")
	} else {
		fmt.Fprintln(w, "| what (median / p99 where there are two) | Podium |\n|---|---|")
	}
	for _, what := range ours.order {
		if other {
			fmt.Fprintf(w, "| %s | %s | %s |\n", what, ours.values[what], theirs.values[what])
		} else {
			fmt.Fprintf(w, "| %s | %s |\n", what, ours.values[what])
		}
	}
}
