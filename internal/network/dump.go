package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// mostListings is how often what changes all the time is listed before that is an error.
const mostListings = 100

// whole lists what the kernel has, again when it changed meanwhile: other nodes of this machine make links too.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range mostListings {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
