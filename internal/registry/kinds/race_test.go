//go:build race

package kinds_test

// refusalFactor is how many times its own size a Pod of too many containers may take to be refused. Under the race detector,
// sync.Pool forgets a quarter of what it is given: each image reference that is parsed then allocates a regexp's matcher.
const refusalFactor = 800
