package container

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A stored Pod may have what the API refuses today.
func TestForgedLines(t *testing.T) {
	for _, word := range []string{"a\nb", "a\rb", "a\x00b"} {
		if oneLine(word) == nil || oneWord(word) == nil {
			t.Errorf("%q passes", word)
		}
	}
	for _, word := range []string{"a b", "a\tb", "a#b"} {
		if oneWord(word) == nil {
			t.Errorf("%q passes as a word", word)
		}
	}
	if oneLine("ndots:2 timeout:1") != nil || oneWord("::1") != nil {
		t.Error("what is right is refused")
	}
	r := newRig(t)
	pod := &v1.Pod{Spec: v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{
		Nameservers: []string{"1.1.1.1"}, Options: []v1.PodDNSConfigOption{{Name: "a\nnameserver 6.6.6.6"}},
	}}}
	if config, err := r.dns(pod); err == nil {
		t.Errorf("dns = %v", config)
	}
	pod.Spec.HostAliases = []v1.HostAlias{{IP: "1.1.1.1", Hostnames: []string{"a\n2.2.2.2 b"}}}
	if mount, err := r.hostsMount(pod, []string{"10.0.0.1"}); err == nil {
		t.Errorf("hosts = %v", mount)
	}
}
