// Package pace makes tests patient where the machine is slow. A time-out of a test says how long it takes at most on an
// ordinary machine; an emulated one says by PODIUM_TEST_PACE how many times longer that is there.
package pace

import (
	"os"
	"strconv"
	"time"
)

// Variable names the environment variable that holds the factor.
const Variable = "PODIUM_TEST_PACE"

var factor = parse(os.Getenv(Variable))

// Of answers with a time-out for this machine.
func Of(d time.Duration) time.Duration { return time.Duration(float64(d) * factor) }

// parse reads a factor; what is none, or less than one, is one.
func parse(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 1) || f > 1000 {
		return 1
	}
	return f
}
