package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"golang.org/x/sys/unix"
)

const (
	// soakAlive is how many Pods the soak has in the API at most, soakBehind how many sandboxes the node may have before
	// it is waited for: the order of things is what is tried, and not how much a machine can do at once.
	soakAlive, soakBehind = 30, 60
	// soakWarm is how many Pods come and go before what the node holds is counted first: caches and pools are filled, and
	// the daemon has the threads that a burst needs.
	soakWarm = 60
	// soakKills is how many times the daemon is killed, all in the first half: what the daemon of the second half holds
	// in the end has to do for half of all Pods.
	soakKills = 10
	// soakPatience is how long the node has to come to rest. The Go runtime gives memory back over minutes.
	soakPatience = 5 * time.Minute
)

// soak lets Pods come and go in random order and then compares what the node holds with what it held before.
type soak struct {
	*cluster
	node  *node
	rand  *rand.Rand
	alive []string
	made  int
	kills int
}

// measureSoak runs the soak on a node of its own.
func measureSoak(ctx context.Context, o options, r *results) error {
	if o.soak == 0 {
		return nil
	}
	seed := o.seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(os.Stderr, "soak: %d Pods, -seed %d\n", o.soak, seed)
	o.many = 0
	n, err := startNode(ctx, o)
	if err != nil {
		return err
	}
	defer n.down()
	c, err := connect(ctx, n.kubeconfig(), o.image)
	if err != nil {
		return err
	}
	defer c.close()
	s := &soak{cluster: c, node: n, rand: rand.New(rand.NewPCG(seed, seed))}
	if err := os.MkdirAll(n.paths.Manifests, 0o755); err != nil {
		return err
	}
	fresh, err := s.holds(ctx)
	if err != nil {
		return err
	}
	if _, err := c.burst(ctx, "warm", soakWarm); err != nil {
		return err
	}
	if err := s.clear(ctx); err != nil {
		return err
	}
	before, err := s.rest(ctx, fresh.morePieces)
	if err != nil {
		return err
	}
	began := time.Now()
	for s.made < o.soak {
		if err := s.step(ctx, o.soak); err != nil {
			return err
		}
	}
	if err := s.clear(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := s.rest(ctx, before.grown)
	if err != nil {
		return fmt.Errorf("%w (-seed %d)\nbefore: %+v\nafter:  %+v", err, seed, before, after)
	}
	r.set(fmt.Sprintf("soak: %d Pods come and go", o.soak), fmt.Sprintf("%.0f s, %d kills of the daemon, nothing left", took.Seconds(), s.kills))
	r.set("soak: daemon before → after", fmt.Sprintf("%.0f → %.0f MB, %d → %d goroutines, %d → %d threads",
		float64(before.Memory)/1e6, float64(after.Memory)/1e6, before.Goroutines, after.Goroutines, before.Threads, after.Threads))
	return nil
}

// step does one thing: a Pod comes or goes, a static Pod is edited, or the daemon is killed.
func (s *soak) step(ctx context.Context, pods int) error {
	if err := s.keepPace(ctx); err != nil {
		return err
	}
	if s.kills < soakKills && s.made >= (s.kills+1)*pods/(2*soakKills) {
		s.kills++
		return s.kill(ctx)
	}
	switch what := s.rand.IntN(100); {
	case what < 50 && len(s.alive) < soakAlive, len(s.alive) == 0:
		s.made++
		name := fmt.Sprintf("soak-%d", s.made)
		s.alive = append(s.alive, name)
		return s.insist(ctx, func() error {
			_, err := s.create(ctx, name, stays, s.kind())
			if apierrors.IsAlreadyExists(err) {
				err = nil // made by a call whose answer a kill has cut off
			}
			return err
		})
	case what < 96:
		at := s.rand.IntN(len(s.alive))
		name := s.alive[at]
		s.alive = append(s.alive[:at], s.alive[at+1:]...)
		var grace *int64 // the Pod's own
		if s.rand.IntN(2) == 0 {
			grace = ptr.To[int64](0)
		}
		return s.insist(ctx, func() error {
			err := s.pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: grace})
			if apierrors.IsNotFound(err) {
				err = nil
			}
			return err
		})
	}
	return s.edit()
}

// kind returns a change that makes a Pod one of several kinds.
func (s *soak) kind() func(*corev1.Pod) {
	switch s.rand.IntN(7) {
	case 0: // does not end when it is asked to
		return script("trap '' TERM; while true; do sleep 0.1; done")
	case 1: // ends by itself
		return func(p *corev1.Pod) {
			script("exit 0")(p)
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
		}
	case 2: // fails again and again
		return script("exit 1")
	case 3: // has an init container
		return func(p *corev1.Pod) {
			script(stays)(p)
			first := *p.Spec.Containers[0].DeepCopy()
			first.Name, first.Command = "first", []string{"sh", "-c", "sleep 0.1"}
			p.Spec.InitContainers = []corev1.Container{first}
		}
	case 4: // has volumes
		return func(p *corev1.Pod) {
			script(stays)(p)
			p.Spec.Volumes = []corev1.Volume{
				{Name: "a", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "b", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
			}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "a", MountPath: "/a"}, {Name: "b", MountPath: "/a/b"}}
		}
	case 5: // has a port of the node
		port := int32(20000 + s.rand.IntN(20))
		return func(p *corev1.Pod) {
			script(stays)(p)
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: port}}
		}
	}
	return script(stays)
}

// script makes a Pod that runs it and has a second to end.
func script(text string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](1)
		p.Spec.Containers[0].Command = []string{"sh", "-c", text}
	}
}

// edit writes the manifest of a static Pod, or takes it away.
func (s *soak) edit() error {
	name := fmt.Sprintf("static-%d", s.rand.IntN(3))
	path := filepath.Join(s.node.paths.Manifests, name+".yaml")
	if s.rand.IntN(3) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n"+
		"  containers: [{name: c, image: %q, command: [sh, -c, 'sleep %d']}]\n", name, s.image, 1000+s.rand.IntN(1000))
	part := filepath.Join(s.node.paths.Root, name+".part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// kill ends the daemon without warning and starts another.
func (s *soak) kill(ctx context.Context) error {
	pid, err := s.node.pid(ctx)
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	waitExit(pid)
	return s.node.up(ctx)
}

// insist does it again as long as the API cannot be reached.
func (s *soak) insist(ctx context.Context, do func() error) error {
	var err error
	for range 100 {
		if err = do(); err == nil || (apierrors.ReasonForError(err) != metav1.StatusReasonUnknown && !apierrors.IsServerTimeout(err)) {
			return err
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// keepPace waits until the node is not too far behind.
func (s *soak) keepPace(ctx context.Context) error {
	for {
		if len(below(s.node.paths.Runtime, "sandboxes")) <= soakBehind {
			return nil
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// clear takes all Pods away.
func (s *soak) clear(ctx context.Context) error {
	s.alive = nil
	for i := range 3 {
		if err := os.Remove(filepath.Join(s.node.paths.Manifests, fmt.Sprintf("static-%d.yaml", i))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return s.insist(ctx, func() error {
		return s.pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}, metav1.ListOptions{})
	})
}

// rest waits until there is no fault with what the node holds, and returns that.
func (s *soak) rest(ctx context.Context, faults func(holdings) []string) (holdings, error) {
	deadline := time.Now().Add(soakPatience)
	for {
		h, err := s.holds(ctx)
		if err != nil {
			return h, err
		}
		found := faults(h)
		if len(found) == 0 {
			return h, nil
		}
		if time.Now().After(deadline) {
			return h, fmt.Errorf("the node does not come to rest: %v", found)
		}
		if err := wait(ctx, time.Second); err != nil {
			return h, err
		}
	}
}
