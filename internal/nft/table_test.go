package nft

import (
	"reflect"
	"testing"

	"github.com/google/nftables"
)

func TestDifference(t *testing.T) {
	e := func(key, val string) nftables.SetElement {
		if val == "" {
			return nftables.SetElement{Key: []byte(key)}
		}
		return nftables.SetElement{Key: []byte(key), Val: []byte(val)}
	}
	have := []nftables.SetElement{e("same", "1"), e("moved", "1"), e("gone", "1")}
	want := []nftables.SetElement{e("twice", "1"), e("same", "1"), e("moved", "2"), e("new", "1"), e("twice", "2")}
	add, drop := difference(have, want)
	if !reflect.DeepEqual(add, []nftables.SetElement{e("moved", "2"), e("new", "1"), e("twice", "2")}) {
		t.Errorf("add %v", add)
	}
	if !reflect.DeepEqual(drop, []nftables.SetElement{e("moved", ""), e("gone", "")}) {
		t.Errorf("drop %v", drop)
	}
	if add, drop := difference(want[:4], want[:4]); add != nil || drop != nil {
		t.Errorf("nothing to do: add %v, drop %v", add, drop)
	}
}
