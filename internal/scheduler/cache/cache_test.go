package cache

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

func nodeIn(name, zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
}

func pod(uid, on string, cpu int64, port int32) *framework.PodInfo {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: "s", UID: types.UID(uid)}, Spec: corev1.PodSpec{NodeName: on}}
	p.Spec.Containers = []corev1.Container{{
		Ports:     []corev1.ContainerPort{{HostPort: port}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(cpu, resource.DecimalSI), "x.io/y": *resource.NewQuantity(cpu, resource.DecimalSI)}},
	}}
	if cpu%2 == 0 {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "k"}}}}
	}
	return framework.NewPodInfo(p)
}

func names(s *framework.Snapshot) []string {
	var out []string
	for _, n := range s.Nodes {
		out = append(out, n.Node.Name)
	}
	return out
}

func TestOrderTakesFromEachZone(t *testing.T) {
	c, s := New(), framework.NewSnapshot()
	for _, n := range []*corev1.Node{nodeIn("a1", "a"), nodeIn("a2", "a"), nodeIn("a3", "a"), nodeIn("b1", "b"), nodeIn("c1", "c"), nodeIn("c2", "c")} {
		c.SetNode(n)
	}
	c.Update(s)
	if got := names(s); !slices.Equal(got, []string{"a1", "b1", "c1", "a2", "c2", "a3"}) {
		t.Errorf("order %v", got)
	}
	c.SetNode(nodeIn("a2", "b"))
	c.RemoveNode("a1")
	c.Update(s)
	if got := names(s); !slices.Equal(got, []string{"a3", "b1", "c1", "a2", "c2"}) {
		t.Errorf("order %v", got)
	}
}

func TestAssume(t *testing.T) {
	c, s := New(), framework.NewSnapshot()
	c.SetNode(nodeIn("n", ""))
	p := pod("p", "n", 1, 1)
	if err := c.Assume(p, "n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Assume(p, "n"); err == nil {
		t.Error("assumed twice")
	}
	c.Update(s)
	before := s.Nodes[0]
	c.SetPod(p)
	if c.Forget("p") {
		t.Error("a confirmed Pod was forgotten")
	}
	c.Update(s)
	if s.Nodes[0] != before {
		t.Error("a confirmation that changes nothing changed the node")
	}
	c.RemovePod("p")
	c.Update(s)
	if len(s.Nodes[0].Pods) != 0 || len(before.Pods) != 1 {
		t.Error("the node of a snapshot must not change")
	}
}

// TestRandomHistories compares the snapshot after each random change with one built from scratch.
func TestRandomHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		history(t, r)
	}
}

func history(t *testing.T, r *rand.Rand) {
	c, s := New(), framework.NewSnapshot()
	nodes, pods := map[string]*corev1.Node{}, map[types.UID]*framework.PodInfo{}
	for range 60 {
		name, uid := fmt.Sprint("n", r.IntN(5)), fmt.Sprint("p", r.IntN(12))
		switch r.IntN(7) {
		case 0, 1:
			n := nodeIn(name, fmt.Sprint(r.IntN(2)))
			n.Status.Images = []corev1.ContainerImage{{Names: []string{fmt.Sprint("i", r.IntN(3)), name}, SizeBytes: 5}}
			nodes[name] = n
			c.SetNode(n)
		case 2:
			delete(nodes, name)
			c.RemoveNode(name)
		case 3, 4:
			p := pod(uid, name, int64(r.IntN(4)), int32(r.IntN(3)))
			pods[types.UID(uid)] = p
			c.SetPod(p)
		case 5:
			delete(pods, types.UID(uid))
			c.RemovePod(types.UID(uid))
		case 6:
			p := pod(uid, name, int64(r.IntN(4)), 0)
			if c.Assume(p, name) == nil {
				if r.IntN(2) == 0 {
					c.Forget(types.UID(uid))
				} else {
					pods[types.UID(uid)] = p
				}
			}
		}
		if r.IntN(3) == 0 {
			c.Update(s)
			compare(t, s, nodes, pods)
		}
	}
	if got := c.Copy(); len(got.Nodes) != len(nodes) {
		t.Fatalf("a copy has %d nodes, want %d", len(got.Nodes), len(nodes))
	}
}

func compare(t *testing.T, s *framework.Snapshot, nodes map[string]*corev1.Node, pods map[types.UID]*framework.PodInfo) {
	t.Helper()
	if len(s.Nodes) != len(nodes) || len(s.Index) != len(nodes) {
		t.Fatalf("%d nodes, %d in the index, want %d", len(s.Nodes), len(s.Index), len(nodes))
	}
	images, anti := map[string]int{}, false
	for name, n := range nodes {
		want := framework.NewNodeInfo()
		want.SetNode(n)
		for _, p := range pods {
			if p.Pod.Spec.NodeName == name {
				want.AddPod(p)
				anti = anti || len(p.Class.AntiAffinity) > 0
			}
		}
		for image := range want.Images {
			images[image]++
		}
		got := s.Get(name)
		if got == nil {
			t.Fatalf("node %s is missing", name)
		}
		if g, w := summary(got), summary(want); g != w {
			t.Fatalf("node %s\n got %s\nwant %s", name, g, w)
		}
	}
	if !reflect.DeepEqual(s.ImageNodes, images) {
		t.Fatalf("images %v, want %v", s.ImageNodes, images)
	}
	if s.AnyAntiAffinity() != anti || s.AnyAffinity() != anti {
		t.Fatalf("anti-affinity %v, want %v", s.AnyAntiAffinity(), anti)
	}
}

func summary(n *framework.NodeInfo) string {
	var pods, ports []string
	for _, p := range n.Pods {
		pods = append(pods, p.Pod.Name)
	}
	for _, p := range n.HostPorts {
		ports = append(ports, fmt.Sprint(p))
	}
	slices.Sort(pods)
	slices.Sort(ports)
	return fmt.Sprint(n.Node.Labels, pods, ports, n.Requested.MilliCPU, n.Requested.Scalar["x.io/y"], n.ScoreRequested.Memory, n.Affinity, n.AntiAffinity, len(n.Classes))
}
