package endpoints

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/scheduler/apitest"
)

func TestMain(m *testing.M) { apitest.Main(m) }

// rig is a sliceWriter against an API server, for one Service.
type rig struct {
	*sliceWriter
	t       *testing.T
	ctx     context.Context
	service *corev1.Service
	queued  atomic.Int32
}

func newRig(t *testing.T, service *corev1.Service, nodes ...*corev1.Node) *rig {
	client, err := kubernetes.NewForConfig(apitest.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	known := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, n := range nodes {
		_ = known.Add(n)
	}
	service.Namespace, service.UID = metav1.NamespaceDefault, types.UID("uid-of-"+service.Name)
	r := &rig{t: t, ctx: t.Context(), service: service}
	r.sliceWriter = newSliceWriter(client, corelisters.NewNodeLister(known), record.NewFakeRecorder(1000), func(types.NamespacedName) { r.queued.Add(1) })
	r.setNodes(nodes)
	return r
}

// settle makes the slices match the Pods, and returns them once the watch has brought them, and how many were written.
func (r *rig) settle(pods []*corev1.Pod) (all []*discoveryv1.EndpointSlice, written int) {
	r.t.Helper()
	r.upToDate()
	before := versions(r.existing(r.service))
	if err := r.write(r.ctx, r.service, pods, time.Time{}); err != nil {
		r.t.Fatal(err)
	}
	r.upToDate()
	all = r.existing(r.service)
	after := versions(all)
	for name, version := range after {
		if before[name] != version {
			written++
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			written++
		}
	}
	return all, written
}

func (r *rig) upToDate() {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		behind, err := r.behind(r.ctx, r.service)
		if err != nil {
			r.t.Fatal(err)
		}
		if !behind {
			return
		}
		if time.Now().After(end) {
			r.t.Fatal("the watch does not bring what was written")
		}
		<-time.After(time.Millisecond / 4)
	}
}

func versions(all []*discoveryv1.EndpointSlice) map[string]string {
	out := map[string]string{}
	for _, s := range all {
		out[s.Name] = s.ResourceVersion
	}
	return out
}

// ofSlices and ofPods are the same text for slices that say what the Pods are.
func ofSlices(all []*discoveryv1.EndpointSlice) (out []string) {
	for _, s := range all {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d", *p.Name, *p.Port))
		}
		slices.Sort(ports)
		for _, e := range s.Endpoints {
			out = append(out, fmt.Sprint(s.AddressType, " ", e.Addresses, " ", e.TargetRef.Name, " ", ports, " ", *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating))
		}
	}
	slices.Sort(out)
	return out
}

func ofPods(service *corev1.Service, pods []*corev1.Pod) (out []string) {
	for _, pod := range pods {
		if podutil.Ended(pod) {
			continue
		}
		var ports []string
		for i := range service.Spec.Ports {
			if n, err := endpointslice.FindPort(pod, &service.Spec.Ports[i]); err == nil {
				ports = append(ports, fmt.Sprintf("%s:%d", service.Spec.Ports[i].Name, n))
			}
		}
		serving, terminating := podutil.IsReady(pod), pod.DeletionTimestamp != nil
		ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
		for _, f := range service.Spec.IPFamilies {
			if ip := ipOf(pod, f); ip != "" {
				out = append(out, fmt.Sprint(f, " ", []string{ip}, " ", pod.Name, " ", ports, " ", ready, serving, terminating))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestRandomHistory changes Pods at random. After each step, the slices say what the Pods are, none is larger than allowed or
// empty next to others, few are written, and nothing is written when nothing changed.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			service := newService(byNumber, byName)
			service.Name = fmt.Sprintf("history-%d", seed)
			service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
			if seed%2 == 1 {
				service.Spec.IPFamilies = append(service.Spec.IPFamilies, corev1.IPv6Protocol)
			}
			r := newRig(t, service, node("n", "z"))
			pods, made := map[string]*corev1.Pod{}, 0
			for step := range 30 {
				changed := changeSome(random, service, pods, &made)
				list := slices.Collect(maps.Values(pods))
				all, written := r.settle(list)
				if got, want := ofSlices(all), ofPods(service, list); !slices.Equal(got, want) {
					t.Fatalf("step %d: the slices have %d endpoints, want %d:\n%q\n%q", step, len(got), len(want), got, want)
				}
				for _, s := range all {
					if len(s.Endpoints) > perSlice || len(s.Endpoints) == 0 && len(all) > len(service.Spec.IPFamilies) {
						t.Fatalf("step %d: a slice of %d endpoints among %d", step, len(s.Endpoints), len(all))
					}
				}
				if changed == 1 && written > 3*len(service.Spec.IPFamilies) {
					t.Errorf("step %d: %d slices written for one Pod", step, written)
				}
				if _, written := r.settle(list); written != 0 {
					t.Errorf("step %d: %d slices written for nothing", step, written)
				}
			}
		})
	}
}

// changeSome changes one Pod or many, and returns how many.
func changeSome(random *rand.Rand, service *corev1.Service, pods map[string]*corev1.Pod, made *int) int {
	names := slices.Sorted(maps.Keys(pods))
	count := 1
	if random.IntN(4) == 0 {
		count = random.IntN(150)
	}
	published := service.Spec.PublishNotReadyAddresses
	service.Spec.PublishNotReadyAddresses = random.IntN(10) == 0
	changed := count
	for range count {
		if len(names) == 0 || random.IntN(2) == 0 {
			*made++
			p := newPod(fmt.Sprintf("p%05d", *made), fmt.Sprintf("10.9.%d.%d", *made/250, *made%250), random.IntN(2) == 0)
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("fd00::%x", *made)})
			if random.IntN(3) == 0 {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{named}
				p.Spec.Containers[0].Ports[0].ContainerPort += random.Int32N(2)
			}
			pods[p.Name] = p
			continue
		}
		p := pods[names[random.IntN(len(names))]]
		switch {
		case p == nil:
			changed--
		case random.IntN(2) == 0:
			delete(pods, p.Name)
		case random.IntN(3) == 0:
			p.DeletionTimestamp = new(metav1.Now())
		case random.IntN(10) == 0:
			p.Status.Phase = corev1.PodFailed
		default:
			p.Status.Conditions[0].Status = corev1.ConditionTrue
		}
	}
	if service.Spec.PublishNotReadyAddresses != published {
		return len(pods)
	}
	return changed
}

func node(name, zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
}

func TestHints(t *testing.T) {
	for _, tt := range []struct{ name, distribution, want string }{
		{"no-hints", "", "/"},
		{"prefer-close", corev1.ServiceTrafficDistributionPreferClose, "z/"},
		{"prefer-zone", corev1.ServiceTrafficDistributionPreferSameZone, "z/"},
		{"prefer-node", corev1.ServiceTrafficDistributionPreferSameNode, "z/n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			service := newService(byNumber)
			service.Name = tt.name
			if tt.distribution != "" {
				service.Spec.TrafficDistribution = &tt.distribution
			}
			all, _ := newRig(t, service, node("n", "z")).settle([]*corev1.Pod{newPod("a", "10.1.0.1", true)})
			got := ""
			if h := all[0].Endpoints[0].Hints; h != nil {
				for _, z := range h.ForZones {
					got += z.Name
				}
				got += "/"
				for _, n := range h.ForNodes {
					got += n.Name
				}
			} else {
				got = "/"
			}
			if got != tt.want {
				t.Errorf("hints %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSliceObject(t *testing.T) {
	service := newService(byNumber)
	service.Name, service.Spec.ClusterIP, service.Labels = "object", corev1.ClusterIPNone, map[string]string{"team": "x"}
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	pod := newPod("a", "10.1.0.1", true)
	pod.Spec.Hostname, pod.Spec.Subdomain, pod.Namespace = "h", "object", metav1.NamespaceDefault
	r := newRig(t, service, node("n", "z"))
	all, _ := r.settle([]*corev1.Pod{pod})
	if len(all) != 2 {
		t.Fatalf("%d slices for two families", len(all))
	}
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return len(b.Endpoints) - len(a.Endpoints) })
	s := all[0]
	if e := s.Endpoints[0]; *e.Hostname != "h" || *e.Zone != "z" || *e.NodeName != "n" || e.TargetRef.Name != "a" {
		t.Errorf("%+v", e)
	}
	if _, ok := s.Labels[corev1.IsHeadlessService]; !ok || s.Labels["team"] != "x" || s.Labels[discoveryv1.LabelManagedBy] != sliceController || s.OwnerReferences[0].UID != service.UID {
		t.Errorf("%+v", s.ObjectMeta)
	}
	if len(all[1].Endpoints) != 0 {
		t.Errorf("the Pod has no address of the other family, and the slice has %d", len(all[1].Endpoints))
	}
	// One family less.
	service.Spec.IPFamilies = service.Spec.IPFamilies[:1]
	if all, _ := r.settle([]*corev1.Pod{pod}); len(all) != 1 {
		t.Errorf("%d slices for one family", len(all))
	}
}

// TestForeignChangesAreRepaired: what someone else does to a slice of the controller queues its Service.
func TestForeignChangesAreRepaired(t *testing.T) {
	service := newService(byNumber)
	service.Name = "foreign"
	r := newRig(t, service, node("n", "z"))
	pods := []*corev1.Pod{newPod("a", "10.1.0.1", true)}
	all, _ := r.settle(pods)
	slicesOf := r.client.DiscoveryV1().EndpointSlices(service.Namespace)
	for what, do := range map[string]func() error{
		"changed": func() error {
			s := all[0].DeepCopy()
			s.Endpoints = nil
			_, err := slicesOf.Update(r.ctx, s, metav1.UpdateOptions{})
			return err
		},
		"deleted": func() error { return slicesOf.Delete(r.ctx, all[0].Name, metav1.DeleteOptions{}) },
	} {
		before := r.queued.Load()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); r.queued.Load() == before; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the Service of a slice that was %s is not queued", what)
			}
		}
		if all, _ = r.settle(pods); len(ofSlices(all)) != 1 {
			t.Fatalf("a slice that was %s is not repaired: %q", what, ofSlices(all))
		}
	}
}
