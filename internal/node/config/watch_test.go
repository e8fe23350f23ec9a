package config

import (
	"os"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/atomicfile"
)

// An edit of a running node's settings is checked at once; what is in force stays.
func TestWatch(t *testing.T) {
	p := paths.For(t.TempDir())
	inForce, err := Ensure(p, Values{}, Machine{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(p.KubeletConfig)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	w := &Watch{
		Paths: p, InForce: inForce, Clock: clock.RealClock{},
		Refused: func(err error) { told <- err.Error() },
		Differs: func() { told <- "differs" },
		Same:    func() { told <- "same" },
	}
	go w.Run(t.Context())
	expect := func(what, content, want string) {
		t.Helper()
		if err := atomicfile.Write(p.KubeletConfig, []byte(content), 0o644, atomicfile.Crash); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			return
		}
		select {
		case got := <-told:
			if got = strings.ReplaceAll(got, p.KubeletConfig, "F"); got != want {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nothing was told", what)
		}
	}
	// The watch begins at some time: until then each edit may go unseen, so the first one is found by its first look too.
	expect("a setting that cannot be", head+"maxPods: -1\n", "F:3: maxPods: -1 must not be a negative number")
	expect("another setting", head+"maxPods: 5\n", "differs")
	expect("a setting that there is not", head+"maxPods: 5\nmaxPots: 5\n", "F:4: maxPots: there is no such setting")
	expect("as it was, with a comment", "# mine\n"+string(first), "same")
	expect("the comment again", "# ours\n"+string(first), "")
	expect("a slip", "{", "F:1: did not find expected node content")
}

func TestSettingsFitTheMachine(t *testing.T) {
	p := paths.For(t.TempDir())
	m := Machine{Swap: 1, Capacity: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceCPU: resource.MustParse("2")}}
	if _, err := Ensure(p, Values{}, m); err != nil {
		t.Errorf("the first settings: %v", err)
	}
	content := head + "kubeReserved: {memory: 600Mi, cpu: \"1\"}\nsystemReserved:\n  memory: 600Mi\n  cpu: \"1\"\n"
	if err := atomicfile.Write(p.KubeletConfig, []byte(content), 0o644, atomicfile.Crash); err != nil {
		t.Fatal(err)
	}
	_, err := Read(p, m)
	want := "F: failSwapOn: running with swap on is not supported unless the setting is false: turn it off with swapoff -a, or set failSwapOn: false\n" +
		"F:5: systemReserved.memory: resource \"memory\" has a reservation of 1200Mi but capacity of 1Gi; expected capacity >= reservation"
	if err == nil || strings.ReplaceAll(err.Error(), p.KubeletConfig, "F") != want {
		t.Errorf("refused with:\n%v\nwant:\n%s", err, want)
	}
}
