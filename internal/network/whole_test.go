package network

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	asked := 0
	got, err := whole(func() ([]int, error) {
		if asked++; asked < 3 {
			return []int{0}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if err != nil || len(got) != 2 || asked != 3 {
		t.Errorf("%v, %v after %d listings", got, err, asked)
	}
	broken := errors.New("broken")
	if _, err := whole(func() ([]int, error) { asked++; return nil, broken }); !errors.Is(err, broken) || asked != 4 {
		t.Errorf("%v after %d listings", err, asked)
	}
	if _, err := whole(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("what never stands still: %v", err)
	}
}
