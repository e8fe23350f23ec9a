//go:build !race

package kinds_test

// refusalFactor is how many times its own size a Pod of too many containers may take to be refused.
const refusalFactor = 100
