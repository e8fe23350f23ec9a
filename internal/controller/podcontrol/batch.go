package podcontrol

import (
	"golang.org/x/sync/errgroup"
)

// callsAtOnce bounds the API calls that one owner has under way.
const callsAtOnce = 16

// Each calls f for 0 to n-1, up to 16 at a time, waits for all and returns the first error.
func Each(n int, f func(int) error) error {
	var calls errgroup.Group
	calls.SetLimit(callsAtOnce)
	for i := range n {
		calls.Go(func() error { return f(i) })
	}
	return calls.Wait()
}

// SlowStart calls f for 0 to n-1 in batches of 1, 2, 4, … and stops after the first batch with an error, which it returns
// with the number of calls that succeeded. An owner whose Pods are all refused thus asks once and not hundreds of times.
func SlowStart(n int, f func(int) error) (done int, err error) {
	for batch := min(1, n); batch > 0; batch = min(2*batch, n-done) {
		ok := make([]bool, batch)
		err := Each(batch, func(i int) error {
			err := f(done + i)
			ok[i] = err == nil
			return err
		})
		for _, one := range ok {
			if one {
				done++
			}
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
