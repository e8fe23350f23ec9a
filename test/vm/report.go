package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"podium.dev/podium/test/vm/plan"
)

// report reads the machine's output line by line, and prints each test's result as it arrives.
type report struct {
	out io.Writer

	passed, failed, skipped int

	step    string              // the running step
	results int                 // of the step's tests
	bad     bool                // one of them failed
	test    string              // the test that writes the present lines
	output  map[string][]string // by test of the step without a result; "" for lines of no test
}

func newReport(out io.Writer) *report { return &report{out: out, output: map[string][]string{}} }

// marker starts the testing package's own lines under -test.v=test2json.
const marker = "\x16"

var (
	result = regexp.MustCompile(`^( *)--- (PASS|FAIL|SKIP): (\S+) \((.*)\)$`)
	whose  = regexp.MustCompile(`^=== (?:RUN|NAME|CONT|PAUSE) +(\S*)`)
)

// line handles the next line.
func (r *report) line(text string) {
	if mark, ok := plan.ParseMark(text); ok {
		r.mark(mark)
		return
	}
	before, own, marked := strings.Cut(text, marker)
	if before != "" {
		r.output[r.test] = append(r.output[r.test], before)
	}
	if !marked {
		return
	}
	if m := whose.FindStringSubmatch(own); m != nil {
		if r.test = m[1]; r.output[r.test] == nil {
			r.output[r.test] = []string{}
		}
		return
	}
	if m := result.FindStringSubmatch(own); m != nil {
		r.test = m[3]
		r.result(m[2], m[3], m[4])
		return
	}
	r.output[r.test] = append(r.output[r.test], own)
}

// result counts a top-level test, and prints the output of a failed one.
func (r *report) result(word, test, took string) {
	if word == "FAIL" {
		fmt.Fprintf(r.out, "FAIL  %s %s (%s)\n", r.step, test, took)
		for _, l := range r.output[test] {
			fmt.Fprintln(r.out, "      "+l)
		}
	}
	delete(r.output, test)
	if strings.Contains(test, "/") {
		return
	}
	r.results++
	switch word {
	case "FAIL":
		r.failed++
		r.bad = true
	case "SKIP":
		r.skipped++
		fmt.Fprintf(r.out, "skip  %s %s\n", r.step, test)
	default:
		r.passed++
		fmt.Fprintf(r.out, "ok    %s %s (%s)\n", r.step, test, took)
	}
}

// mark handles a line of the machine's first process.
func (r *report) mark(m plan.Mark) {
	switch m.Kind {
	case plan.Up:
		fmt.Fprintf(r.out, "machine up for %s, %.1fs after its kernel started\n", m.Name, m.Took.Seconds())
	case plan.Start:
		r.step, r.results, r.bad, r.test, r.output = m.Name, 0, false, "", map[string][]string{}
	case plan.End:
		r.end(m)
	}
}

// end closes a step. A step that failed although none of its tests did (a time-out, a panic, a leak) counts as
// a failed test, and so does a step without a result, because it has tested nothing.
func (r *report) end(m plan.Mark) {
	fmt.Fprintf(r.out, "      %s took %v\n", m.Name, m.Took.Round(100*time.Millisecond))
	if m.Err == "" && r.results > 0 {
		return
	}
	if m.Err == "" {
		m.Err = "no test ran"
	}
	fmt.Fprintf(r.out, "FAIL  %s: %s\n", m.Name, m.Err)
	if !r.bad {
		r.failed++
	}
	r.unfinished()
}

// broken counts an error that kept the machine from finishing.
func (r *report) broken(err error) {
	r.failed++
	fmt.Fprintln(r.out, "FAIL ", err)
	r.unfinished()
}

// unfinished prints the output of tests without a result.
func (r *report) unfinished() {
	for _, test := range slices.Sorted(maps.Keys(r.output)) {
		if test != "" {
			fmt.Fprintf(r.out, "      %s did not end\n", test)
		}
		for _, l := range r.output[test] {
			fmt.Fprintln(r.out, "      "+l)
		}
	}
}

func (r *report) summary() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
}
