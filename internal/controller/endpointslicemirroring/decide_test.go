package endpointslicemirroring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// subset reads "1.1.1.1 !1.1.1.2 http:80": addresses, those that are not ready, and ports.
func subset(text string) (s corev1.EndpointSubset) {
	for _, word := range strings.Fields(text) {
		name, number, isPort := strings.Cut(word, ":")
		switch {
		case isPort && !strings.Contains(number, ":"):
			p := corev1.EndpointPort{Name: name, Protocol: corev1.ProtocolTCP}
			_, _ = fmt.Sscan(number, &p.Port)
			s.Ports = append(s.Ports, p)
		case word[0] == '!':
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: word[1:]})
		default:
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: word})
		}
	}
	return s
}

func endpoints(subsets ...string) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Namespace: "s", UID: "u", Labels: map[string]string{"team": "x"},
		Annotations: map[string]string{"mine": "y", corev1.EndpointsLastChangeTriggerTime: "then"},
	}}
	for _, text := range subsets {
		e.Subsets = append(e.Subsets, subset(text))
	}
	return e
}

// text is the content of a slice in a line.
func text(s *discoveryv1.EndpointSlice) string {
	var words []string
	for _, e := range s.Endpoints {
		mark := "!"
		if *e.Conditions.Ready {
			mark = ""
		}
		words = append(words, mark+e.Addresses[0])
	}
	slices.Sort(words)
	var ports []string
	for _, p := range s.Ports {
		ports = append(ports, fmt.Sprintf("%s:%d", *p.Name, *p.Port))
	}
	slices.Sort(ports)
	return string(s.AddressType) + " " + strings.Join(append(words, ports...), " ")
}

// apply makes the changes to the slices, as the API server would.
func apply(have []*discoveryv1.EndpointSlice, c changes, made *int) (out []*discoveryv1.EndpointSlice) {
	for _, s := range have {
		if i := slices.IndexFunc(c.update, func(u *discoveryv1.EndpointSlice) bool { return u.Name == s.Name }); i >= 0 {
			out = append(out, c.update[i])
		} else if !slices.Contains(c.remove, s.Name) {
			out = append(out, s)
		}
	}
	for _, s := range c.create {
		*made++
		s.Name = fmt.Sprintf("web-%d", *made)
		out = append(out, s)
	}
	return out
}

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name             string
		before, now      []string
		want             []string
		create, up, gone int
	}{
		{"a first subset", nil, []string{"1.1.1.1 !1.1.1.2 http:80"}, []string{"IPv4 !1.1.1.2 1.1.1.1 http:80"}, 1, 0, 0},
		{"two families", nil, []string{"1.1.1.1 fd00::1 http:80"}, []string{"IPv4 1.1.1.1 http:80", "IPv6 fd00::1 http:80"}, 2, 0, 0},
		{"the same ports in two subsets", nil, []string{"1.1.1.1 http:80", "1.1.1.2 http:80"}, []string{"IPv4 1.1.1.1 1.1.1.2 http:80"}, 1, 0, 0},
		{"the same address with two ports", nil, []string{"1.1.1.1 a:80", "1.1.1.1 b:81"}, []string{"IPv4 1.1.1.1 a:80 b:81"}, 1, 0, 0},
		{"other addresses for another port", nil, []string{"1.1.1.1 1.1.1.2 a:80", "1.1.1.1 b:81"}, []string{"IPv4 1.1.1.1 1.1.1.2 a:80", "IPv4 1.1.1.1 b:81"}, 2, 0, 0},
		{"no port", nil, []string{"1.1.1.1"}, []string{"IPv4 1.1.1.1"}, 1, 0, 0},
		{"nothing changed", []string{"1.1.1.1 http:80"}, []string{"1.1.1.1 http:80"}, []string{"IPv4 1.1.1.1 http:80"}, 0, 0, 0},
		{"an address more", []string{"1.1.1.1 http:80"}, []string{"1.1.1.1 1.1.1.2 http:80"}, []string{"IPv4 1.1.1.1 1.1.1.2 http:80"}, 0, 1, 0},
		{"became ready", []string{"!1.1.1.1 http:80"}, []string{"1.1.1.1 http:80"}, []string{"IPv4 1.1.1.1 http:80"}, 0, 1, 0},
		{"another port takes the slice over", []string{"1.1.1.1 http:80"}, []string{"1.1.1.1 http:81"}, []string{"IPv4 1.1.1.1 http:81"}, 0, 1, 0},
		{"another family does not", []string{"1.1.1.1 http:80"}, []string{"fd00::1 http:80"}, []string{"IPv6 fd00::1 http:80"}, 1, 0, 1},
		{"gone", []string{"1.1.1.1 http:80", "1.1.1.2 a:1"}, nil, nil, 0, 0, 2},
		{"no address", nil, []string{"http:80"}, nil, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made := 0
			have := apply(nil, decide(endpoints(tt.before...), nil), &made)
			c := decide(endpoints(tt.now...), have)
			if len(c.create) != tt.create || len(c.update) != tt.up || len(c.remove) != tt.gone {
				t.Errorf("%d created, %d updated, %d removed", len(c.create), len(c.update), len(c.remove))
			}
			var got []string
			for _, s := range apply(have, c, &made) {
				got = append(got, text(s))
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	all := "x:80 no-address"
	for i := range perSubset + 5 {
		all += fmt.Sprintf(" 1.1.%d.%d", i/250, i%250)
	}
	c := decide(endpoints(all), nil)
	if len(c.create) != 1 || len(c.create[0].Endpoints) != perSubset || c.skipped != 6 {
		t.Errorf("%d slices, %d skipped", len(c.create), c.skipped)
	}
	if c := decide(endpoints("no-address 1.1.1.1 x:80"), nil); c.invalid != 1 || c.skipped != 1 {
		t.Errorf("%d invalid, %d skipped", c.invalid, c.skipped)
	}
}

func TestObject(t *testing.T) {
	s := decide(endpoints("1.1.1.1 x:80"), nil).create[0]
	if s.Labels["team"] != "x" || s.Labels[discoveryv1.LabelManagedBy] != Manager || s.Labels[discoveryv1.LabelServiceName] != "web" ||
		s.Annotations["mine"] != "y" || len(s.Annotations) != 1 || s.OwnerReferences[0].UID != "u" || s.OwnerReferences[0].Kind != "Endpoints" || s.GenerateName != "web-" {
		t.Errorf("%+v", s.ObjectMeta)
	}
}

// TestRandomHistory edits Endpoints at random: the slices always say the same, and a second decision has nothing to do.
func TestRandomHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	var have []*discoveryv1.EndpointSlice
	made := 0
	for step := range 500 {
		var subsets []string
		want := map[string]bool{}
		for range random.IntN(4) {
			line := ""
			ports := []string{}
			for range 1 + random.IntN(2) {
				ports = append(ports, fmt.Sprintf("p:%d", 80+random.IntN(3)))
			}
			for range 1 + random.IntN(5) {
				ip := []string{fmt.Sprintf("10.0.0.%d", random.IntN(8)), fmt.Sprintf("fd00::%d", 1+random.IntN(8))}[random.IntN(2)]
				line += ip + " "
				for _, p := range ports {
					want[ip+" "+p] = true
				}
			}
			subsets = append(subsets, line+strings.Join(ports, " "))
		}
		e := endpoints(subsets...)
		have = apply(have, decide(e, have), &made)
		got := map[string]bool{}
		for _, s := range have {
			for _, endpoint := range s.Endpoints {
				for _, p := range s.Ports {
					got[fmt.Sprintf("%s %s:%d", endpoint.Addresses[0], *p.Name, *p.Port)] = true
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("step %d: %q became %v", step, subsets, got)
		}
		if c := decide(e, have); len(c.create)+len(c.update)+len(c.remove) != 0 {
			t.Fatalf("step %d: a second decision changes %+v", step, c)
		}
	}
}
