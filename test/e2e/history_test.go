package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/podutil"
)

var (
	historySeed = flag.Uint64("history.seed", 0, "the seed of the random history; 0 for another each time")
	historyTime = flag.Duration("history.time", 30*time.Second, "how long the random history lasts")
)

// life is what a container of a history does: it writes what becomes of it into its Pod's file, ends by a file with
// the code to end with, and is ready and well by two others. Its name is an argument, so that its process is known.
const life = `
say() { echo "$1" >> /shared/$POD; }
trap 'say "term $1"; exit 0' TERM
say "start $1"
rm -f /shared/$POD.$1.sick
while true; do
  if [ -e /shared/$POD.$1.exit ]; then code=$(cat /shared/$POD.$1.exit); rm -f /shared/$POD.$1.exit; say "exit $1 $code"; exit $code; fi
  sleep 0.1 & wait
done`

// initLife is what an init container does.
const initLife = `echo "start $1" >> /shared/$POD; sleep 0.1; echo "exit $1 0" >> /shared/$POD`

// history is a node on which random things happen for a while.
type history struct {
	*space
	rng    *rand.Rand
	shared string
	next   int

	mu sync.Mutex
	// specs are the Pods there ever were, alive those that nobody has deleted.
	specs map[string]*corev1.Pod
	alive []string
	// restarts are the highest restart counts that were seen, by Pod and container, phases the last phases, by Pod.
	restarts map[string]int32
	phases   map[string]corev1.PodPhase
	// doubled are the containers that were seen to run twice at once.
	doubled map[string]bool
	done    chan struct{}
}

// finalizer keeps the object of each Pod until its last status was read: a container may start once more just before its
// Pod is deleted, and who only looks now and then would never see that it was counted.
const finalizer = "podium.dev/history"

// TestRandomHistory kills the daemon at random moments while Pods are made, deleted, fail and fall ill, and checks
// what must always hold: nothing runs twice at once, restart counts only grow, init containers run in order and once,
// what has ended for good stays so, sidecars outlive what they stand beside, what was deleted is gone.
// The seed is printed; what the machine does in between cannot be replayed, what is done to it can.
func TestRandomHistory(t *testing.T) {
	t.Parallel()
	seed := *historySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -history.seed=%d", seed)
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.configure("crashLoopBackOff: .*", "crashLoopBackOff: {maxContainerRestartPeriod: 1s}")
	s.restart()
	h := &history{
		space: s, rng: rand.New(rand.NewPCG(seed, 1)), shared: t.TempDir(), specs: map[string]*corev1.Pod{},
		restarts: map[string]int32{}, phases: map[string]corev1.PodPhase{}, doubled: map[string]bool{}, done: make(chan struct{}),
	}
	t.Cleanup(h.releaseAll)
	var watchers sync.WaitGroup
	watchers.Go(func() { h.every(100*time.Millisecond, h.noDoubles) })
	watchers.Go(func() { h.every(100*time.Millisecond, h.onlyForward) })
	kills := 0
	for end := time.Now().Add(*historyTime); time.Now().Before(end) && !t.Failed(); {
		kills += h.happen()
		<-time.After(time.Duration(h.rng.IntN(200)) * time.Millisecond)
	}
	h.rest()
	close(h.done)
	watchers.Wait()
	t.Logf("%d Pods, %d starts of their containers, %d kills of the daemon", h.next, h.end(), kills)
}

// every does something now and then until the history is over.
func (h *history) every(period time.Duration, do func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-h.done:
			return
		case <-tick.C:
			do()
		}
	}
}

// happen is one thing that happens; it answers with the number of kills of the daemon.
func (h *history) happen() int {
	switch h.rng.IntN(10) {
	case 0, 1, 2:
		if len(h.alive) < 6 {
			h.make()
		}
	case 3, 4:
		h.touch("exit", fmt.Sprint([]int{0, 0, 1, 42}[h.rng.IntN(4)]))
	case 5:
		h.touch("sick", "")
	case 6:
		if name := h.any(); name != "" {
			ready := filepath.Join(h.shared, name+".ready")
			if os.Remove(ready) != nil {
				h.write(ready, "")
			}
		}
	case 7:
		if len(h.alive) > 3 {
			h.remove(h.any())
		}
	default:
		<-time.After(time.Duration(h.rng.IntN(150)) * time.Millisecond)
		h.restart()
		return 1
	}
	return 0
}

func (h *history) any() string {
	if len(h.alive) == 0 {
		return ""
	}
	return h.alive[h.rng.IntN(len(h.alive))]
}

func (h *history) write(path, text string) {
	h.Helper()
	// Whole at once: a container looks for it all the time.
	if err := os.WriteFile(path+".part", []byte(text), 0o600); err != nil {
		h.Error(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		h.Error(err)
	}
}

// touch has something happen to a random container of a random Pod.
func (h *history) touch(what, text string) {
	if name := h.any(); name != "" {
		list := h.specs[name].Spec.Containers
		// Who ends well while a probe of it fails may run again or not, as in Kubernetes: nothing could be said of it.
		if what == "sick" && h.specs[name].Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
			return
		}
		c := list[h.rng.IntN(len(list))].Name
		h.write(filepath.Join(h.shared, name+"."+c+"."+what), text)
	}
}

// make makes a random Pod.
func (h *history) make() {
	name := fmt.Sprintf("p%d", h.next)
	h.next++
	grace := int64(20)
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{finalizer}}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		RestartPolicy:                 []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}[h.rng.IntN(4)],
	}}
	container := func(name, script string) corev1.Container {
		return corev1.Container{Name: name, Image: shellImage, Command: []string{"sh", "-c", script, "history", name}, Env: []corev1.EnvVar{{Name: "POD", Value: p.Name}}}
	}
	test := func(expression string, period int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", expression}}},
			PeriodSeconds: period, FailureThreshold: 1, TimeoutSeconds: 60, // a busy machine is slow, not sick
		}
	}
	for i := range h.rng.IntN(3) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, container(fmt.Sprintf("i%d", i), initLife))
	}
	if h.rng.IntN(2) == 0 {
		side := container("side", life)
		side.RestartPolicy = &always
		p.Spec.InitContainers = append(p.Spec.InitContainers, side)
	}
	for i := range 1 + h.rng.IntN(2) {
		c := container(fmt.Sprintf("c%d", i), life)
		c.LivenessProbe = test("[ ! -e /shared/$POD."+c.Name+".sick ]", 1)
		if h.rng.IntN(2) == 0 {
			c.ReadinessProbe = test("[ -e /shared/$POD.ready ]", 1)
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	h.create(withHostDir(p, h.shared))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.specs[name], h.alive = p, append(h.alive, name)
}

// remove has a user delete a Pod.
func (h *history) remove(name string) {
	h.Helper()
	if err := h.node.client.CoreV1().Pods(h.ns).Delete(h.ctx, name, metav1.DeleteOptions{}); err != nil {
		h.Errorf("delete %s: %v", name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = slices.DeleteFunc(h.alive, func(n string) bool { return n == name })
}

var containerGroup = regexp.MustCompile(`[0-9a-f]{64}`)

// noDoubles looks at the processes of the node: no container may have two runs at once.
func (h *history) noDoubles() {
	runs := map[string]map[string]bool{}
	for pid, p := range processes(h.space) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		id := containerGroup.FindString(p.cgroup)
		if len(args) != 5 || args[3] != "history" || id == "" || !strings.Contains(p.cgroup, h.node.paths.ID) {
			continue // of another node too: such a history may run there
		}
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		at := strings.Index("\x00"+string(env), "\x00POD=")
		if at < 0 {
			continue
		}
		pod, _, _ := strings.Cut(string(env)[at+len("POD="):], "\x00")
		name := pod + "/" + args[4]
		if runs[name] == nil {
			runs[name] = map[string]bool{}
		}
		runs[name][id] = true
	}
	for name, ids := range runs {
		if len(ids) > 1 && !h.doubled[name] {
			h.doubled[name] = true
			h.Errorf("%s runs %d times at once: %v", name, len(ids), ids)
		}
	}
}

// onlyForward looks at the API, when it is there: restart counts grow, and what has ended stays ended.
func (h *history) onlyForward() {
	pods, err := h.node.client.CoreV1().Pods(h.ns).List(h.ctx, metav1.ListOptions{})
	if err != nil {
		return // the daemon is down
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range pods.Items {
		p := &pods.Items[i]
		h.forward(p)
	}
}

// forward compares a Pod's status with the last that was seen. The lock is held.
func (h *history) forward(p *corev1.Pod) {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		name := p.Name + "/" + c.Name
		if c.RestartCount < h.restarts[name] {
			h.Errorf("the restart count of %s went from %d to %d", name, h.restarts[name], c.RestartCount)
		}
		h.restarts[name] = c.RestartCount
	}
	was := h.phases[p.Name]
	if (was == corev1.PodSucceeded || was == corev1.PodFailed) && p.Status.Phase != was {
		h.Errorf("the phase of %s went from %s to %s", p.Name, was, p.Status.Phase)
	}
	h.phases[p.Name] = p.Status.Phase
}

// awaitReleased waits until the node has let go of a deleted Pod, takes in its last status and lets its object go.
func (h *history) awaitReleased(name string) {
	h.Helper()
	pods := h.node.client.CoreV1().Pods(h.ns)
	h.eventually("Pod "+name+" is let go of", func() error {
		p, err := pods.Get(h.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil // before
		}
		if err != nil {
			return err
		}
		// The node deletes the object with no grace when nothing of the Pod is left.
		if g := p.DeletionGracePeriodSeconds; g == nil || *g != 0 {
			return errors.New(describe(p))
		}
		h.mu.Lock()
		h.forward(p)
		h.mu.Unlock()
		return h.release(name)
	})
	h.awaitGone(name)
}

func (h *history) release(name string) error {
	_, err := h.node.client.CoreV1().Pods(h.ns).Patch(h.ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// releaseAll lets the objects go of a history that was cut short.
func (h *history) releaseAll() {
	h.ctx = context.Background() // the test's own context has ended
	for name := range h.specs {
		if err := h.release(name); err != nil {
			h.Error(err)
		}
	}
}

// rest lets all come to rest: what is to run always runs, and what is to be gone is.
func (h *history) rest() {
	h.Helper()
	for name, spec := range h.specs {
		if !slices.Contains(h.alive, name) {
			h.awaitReleased(name)
			continue
		}
		h.write(filepath.Join(h.shared, name+".ready"), "")
		h.await(name, "at rest", func(p *corev1.Pod) bool {
			return podutil.Ended(p) || isReady(p) ||
				spec.Spec.RestartPolicy != corev1.RestartPolicyAlways && p.Status.Phase == corev1.PodRunning
		})
	}
}

// end deletes what is left, reads what each Pod's containers said, and answers with how often one started.
func (h *history) end() (starts int) {
	h.Helper()
	for _, name := range slices.Clone(h.alive) {
		h.remove(name)
	}
	for name := range h.specs {
		h.awaitReleased(name)
	}
	for name, spec := range h.specs {
		text, err := os.ReadFile(filepath.Join(h.shared, name))
		if err != nil && !os.IsNotExist(err) {
			h.Error(err)
		}
		starts += strings.Count(string(text), "start ")
		for _, wrong := range wrongs(spec, strings.Split(strings.TrimSpace(string(text)), "\n"), h.restarts) {
			h.Errorf("%s (%s): %s\n%s", name, spec.Spec.RestartPolicy, wrong, text)
		}
	}
	return starts
}

// wrongs answers with what cannot be in the story of a Pod: the lines are "start", "exit" or "term" and a container.
func wrongs(p *corev1.Pod, lines []string, restarts map[string]int32) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	apps := func(name string) bool {
		return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	}
	starts, runs, done := map[string]int32{}, map[string]bool{}, map[string]bool{}
	// late are the containers that ran when the sidecar was told to end. One that is never heard of again was killed at
	// the end of the grace period, when the sidecar's time is over too: a signal that comes before the shell has set its
	// trap is lost, for the shell is process 1.
	late := map[string]bool{}
	for _, line := range lines {
		what, rest, _ := strings.Cut(line, " ")
		name, code, _ := strings.Cut(rest, " ")
		switch what {
		case "start":
			starts[name]++
			if apps(name) || name == "side" {
				for _, c := range p.Spec.InitContainers {
					if c.RestartPolicy == nil && !done[c.Name] {
						say("%s starts before %s has ended", name, c.Name)
					}
				}
			}
			if apps(name) && (starts[name] > 1 && p.Spec.RestartPolicy == corev1.RestartPolicyNever || done[name] && p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure) {
				say("%s starts again", name)
			}
			runs[name] = true
			delete(late, name)
			continue
		case "exit":
			done[name] = code == "0"
		case "term":
			for app, running := range runs {
				late[app] = late[app] || name == "side" && running && apps(app)
			}
		}
		runs[name] = false
		if late[name] {
			say("the sidecar is told to end while %s runs", name)
		}
	}
	for name, n := range starts {
		if c := slices.IndexFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name && c.RestartPolicy == nil }); c >= 0 && n != 1 {
			say("init container %s ran %d times", name, n)
		}
		if got := restarts[p.Name+"/"+name]; got < n-1 {
			say("%s started %d times and has a restart count of %d", name, n, got)
		}
	}
	return wrong
}
