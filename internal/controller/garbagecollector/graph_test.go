package garbagecollector

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var testKind = &kind{}

func object(uid types.UID, owners ...owner) *node {
	return &node{kind: testKind, name: string(uid), uid: uid, owners: owners}
}

func going(n *node, foreground, orphan bool) *node {
	n.deleting, n.foreground, n.orphan = true, foreground, orphan
	return n
}

func TestGraphSaysWhereToLook(t *testing.T) {
	tests := []struct {
		name   string
		before []*node
		do     func(*graph) []types.UID
		want   []types.UID
	}{
		{"an object without owners", nil, func(g *graph) []types.UID { return g.set(object("a")) }, nil},
		{"a dependent of a known owner", []*node{object("a")},
			func(g *graph) []types.UID { return g.set(object("b", owner{uid: "a"})) }, nil},
		{"a dependent of an unknown owner", nil,
			func(g *graph) []types.UID { return g.set(object("b", owner{uid: "a"})) }, []types.UID{"b"}},
		{"a dependent made while its owner waits", []*node{going(object("a"), true, false)},
			func(g *graph) []types.UID { return g.set(object("b", owner{uid: "a"})) }, []types.UID{"b"}},
		{"an owner that goes", []*node{object("a"), object("b", owner{uid: "a"})},
			func(g *graph) []types.UID { return g.remove("a") }, []types.UID{"b"}},
		{"an owner that starts to wait", []*node{object("a"), object("b", owner{uid: "a", blocks: true})},
			func(g *graph) []types.UID { return g.set(going(object("a"), true, false)) }, []types.UID{"a"}},
		{"an owner to be orphaned", []*node{object("a"), object("b", owner{uid: "a"})},
			func(g *graph) []types.UID { return g.set(going(object("a"), false, true)) }, []types.UID{"a"}},
		{"the last dependent of a waiting owner", []*node{going(object("a"), true, false), object("b", owner{uid: "a"})},
			func(g *graph) []types.UID { return g.remove("b") }, []types.UID{"a"}},
		{"a dependent that stops blocking", []*node{going(object("a"), true, false), object("b", owner{uid: "a", blocks: true})},
			func(g *graph) []types.UID { return g.set(object("b", owner{uid: "a"})) }, []types.UID{"a", "b"}},
		{"an update that changes nothing", []*node{object("a"), object("b", owner{uid: "a"})},
			func(g *graph) []types.UID { return g.set(object("b", owner{uid: "a"})) }, nil},
		{"a list without an owner that was there", []*node{object("a"), object("b", owner{uid: "a"})},
			func(g *graph) []types.UID { return g.replace(testKind, []*node{object("b", owner{uid: "a"})}) }, []types.UID{"b"}},
		{"dependents listed before their owner", []*node{object("b", owner{uid: "a"}), object("a")},
			(*graph).unsettled, nil},
		{"what a first view leaves open", []*node{object("b", owner{uid: "gone"}), going(object("c"), true, false)},
			(*graph).unsettled, []types.UID{"b", "c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGraph()
			for _, n := range tt.before {
				g.set(n)
			}
			got := tt.do(g)
			slices.Sort(got)
			if !slices.Equal(slices.Compact(got), tt.want) {
				t.Errorf("look at %v, want %v", got, tt.want)
			}
		})
	}
}

func TestGraphForgetsAll(t *testing.T) {
	g := newGraph()
	g.set(object("a"))
	g.set(object("b", owner{uid: "a"}, owner{uid: "x"}))
	g.remove("b")
	g.remove("a")
	if len(g.nodes)+len(g.dependents) != 0 {
		t.Errorf("left: %v %v", g.nodes, g.dependents)
	}
}

func TestNewNode(t *testing.T) {
	yes, now := true, metav1.Now()
	got := newNode(testKind, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: "n", Namespace: "s", UID: "u", DeletionTimestamp: &now, Finalizers: []string{"x", "foregroundDeletion"},
		OwnerReferences: []metav1.OwnerReference{{UID: "o", BlockOwnerDeletion: &yes}, {UID: "p"}},
	}})
	if !got.deletingDependents() || got.orphan || !got.blocks("o") || got.blocks("p") {
		t.Errorf("got %+v", got)
	}
}
