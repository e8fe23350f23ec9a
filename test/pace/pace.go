// Package pace adapts the time-outs of tests to slow machines. A test's time-out is the upper bound on an
// ordinary machine; PODIUM_TEST_PACE holds the factor for an emulated one.
package pace

import (
	"os"
	"strconv"
	"time"
)

// Variable names the environment variable that holds the factor.
const Variable = "PODIUM_TEST_PACE"

var factor = parse(os.Getenv(Variable))

// Of returns the time-out for this machine.
func Of(d time.Duration) time.Duration { return time.Duration(float64(d) * factor) }

// parse parses a factor. Invalid factors and those below one count as one.
func parse(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 1) || f > 1000 {
		return 1
	}
	return f
}
