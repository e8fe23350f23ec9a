// Package plan defines what the driver of the test machine passes to the machine's first process, and the lines
// with which that process reports.
package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Path is the path of the plan in the machine.
const Path = "/plan.json"

// Plan defines the machine's modules and what it runs.
type Plan struct {
	// Modules are the paths of kernel modules, in an order that satisfies their dependencies.
	Modules []string
	// Scenarios are, by name, the steps that one start of the machine runs. The kernel's command line names one
	// as ScenarioFlag=NAME.
	Scenarios map[string][]Step
}

// ScenarioFlag is the word of the kernel's command line that names the scenario.
const ScenarioFlag = "podium.scenario"

// Step is one program to run.
type Step struct {
	Name    string
	Dir     string
	Args    []string
	Env     []string
	Timeout time.Duration
}

// Mark is a line of the machine's first process among the output of the tests.
type Mark struct {
	Kind string // one of the kinds below
	Name string
	Took time.Duration
	Err  string
}

// The kinds of marks.
const (
	Up    = "up"    // the machine is up; Took is the time since the kernel's start
	Start = "start" // the step Name begins
	End   = "end"   // the step Name has ended after Took, with Err if it failed
	Off   = "off"   // all steps are done, the machine goes off
)

// lead starts a mark. No test writes it.
const lead = "\x16### "

func (m Mark) String() string {
	return lead + strings.Join([]string{m.Kind, strconv.Quote(m.Name), m.Took.String(), strconv.Quote(m.Err)}, " ")
}

// ParseMark parses a line. ok is false if it is not a mark.
func ParseMark(line string) (m Mark, ok bool) {
	at := strings.Index(line, lead)
	if at < 0 {
		return m, false
	}
	var took string
	if _, err := fmt.Sscanf(line[at+len(lead):], "%s %q %s %q", &m.Kind, &m.Name, &took, &m.Err); err != nil {
		return Mark{}, false
	}
	var err error
	m.Took, err = time.ParseDuration(took)
	return m, err == nil
}
