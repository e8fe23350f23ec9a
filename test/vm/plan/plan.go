// Package plan is what the driver of the test machine tells the machine's first process, and the lines by which that
// process answers.
package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Path is where the plan lies in the machine.
const Path = "/plan.json"

// Plan is what the machine has and does.
type Plan struct {
	// Modules are the paths of the kernel's modules, each after those it needs.
	Modules []string
	// Scenarios are by name the steps that one start of the machine carries out. The kernel's command line names one:
	// ScenarioFlag=NAME.
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

// A Mark is a line of the machine's first process among the output of the tests.
type Mark struct {
	Kind string // one of the kinds below
	Name string
	Took time.Duration
	Err  string
}

// The kinds of marks.
const (
	Up    = "up"    // the machine is there; Took is the time since the kernel's start
	Start = "start" // the step Name begins
	End   = "end"   // the step Name has ended after Took, with Err if it failed
	Off   = "off"   // all steps are done, the machine goes off
)

// lead begins a mark; no test writes it.
const lead = "\x16### "

func (m Mark) String() string {
	return lead + strings.Join([]string{m.Kind, strconv.Quote(m.Name), m.Took.String(), strconv.Quote(m.Err)}, " ")
}

// ParseMark reads a line; ok is false when it is no mark.
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
