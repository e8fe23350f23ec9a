package container

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/qos"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/podutil"
)

// The tree of Pods' cgroups. Guaranteed Pods are right below kubepods, so that the others together can be
// weighed against each of them.
const (
	treeRoot       = "kubepods"
	treeBurstable  = treeRoot + "/burstable"
	treeBestEffort = treeRoot + "/besteffort"
)

// podPrefix begins the name of a Pod's cgroup; its UID follows.
const podPrefix = "pod"

// killTimeout bounds the end of what is left in a cgroup that is to be removed.
const killTimeout = 10 * time.Second

// cgroupTree makes and removes cgroups; *cgroup.Manager is one.
type cgroupTree interface {
	Path(p string) string
	Ensure(p string, res cgroup.Resources) error
	Remove(p string) error
	Kill(ctx context.Context, p string) error
	Children(p string) ([]string, error)
}

// Cgroups has the cgroups that Pods live in: kubepods, its levels of service and one cgroup a Pod. It is safe
// for use from several goroutines.
type Cgroups struct {
	tree     cgroupTree
	settings qos.Settings
	sizes    []string

	mu sync.Mutex
	// made is whether the levels are there; needs are the requests of the Pods that the levels' own settings are sums
	// of.
	made  bool
	needs map[types.UID]need
}

// need is what a Pod requests: thousandths of a CPU and bytes.
type need struct {
	class            v1.PodQOSClass
	milliCPU, memory int64
}

// NewPodCgroups makes a Cgroups over a tree; nothing is touched before its first call.
func NewPodCgroups(tree *cgroup.Manager, _ paths.Paths, settings *kubeletconfig.KubeletConfiguration) *Cgroups {
	m := ThisMachine()
	return newCgroups(tree, PodSettings(settings, m.Unified), m.HugePages)
}

func newCgroups(tree cgroupTree, settings qos.Settings, sizes []string) *Cgroups {
	return &Cgroups{tree: tree, settings: settings, sizes: sizes, needs: map[types.UID]need{}}
}

// place is the cgroup of a Pod, relative to the tree's parent.
func place(class v1.PodQOSClass, uid types.UID) string {
	level := treeRoot
	switch class {
	case v1.PodQOSBurstable:
		level = treeBurstable
	case v1.PodQOSBestEffort:
		level = treeBestEffort
	}
	return path.Join(level, podPrefix+string(uid))
}

// Ensure makes the Pod's cgroup with the limits of its spec, or brings them up to date, and returns its
// path, the CgroupParent of the sandbox.
func (c *Cgroups) Ensure(pod *v1.Pod) (parent string, err error) {
	if err := c.levels(map[types.UID]*v1.Pod{pod.UID: pod}); err != nil {
		return "", err
	}
	p := place(podutil.QOSClass(pod), pod.UID)
	if err := c.tree.Ensure(p, c.resources(pod)); err != nil {
		return "", fmt.Errorf("failed to create container for %v : %w", p, err)
	}
	return c.tree.Path(p), nil
}

// Restore takes up the Pods that an earlier run of the node made cgroups for, so that their level weighs what
// it did.
func (c *Cgroups) Restore(pods []*v1.Pod) error {
	known := map[types.UID]*v1.Pod{}
	for _, p := range pods {
		known[p.UID] = p
	}
	return c.levels(known)
}

// levels makes the levels of service, and weighs that of Burstable Pods with more of them.
func (c *Cgroups) levels(pods map[types.UID]*v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for uid, pod := range pods {
		class := podutil.QOSClass(pod)
		if class != v1.PodQOSBurstable && (class != v1.PodQOSGuaranteed || !c.protects()) {
			continue
		}
		requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
		n := need{class, requests.Cpu().MilliValue(), requests.Memory().Value()}
		if had, ok := c.needs[uid]; !ok || had != n {
			c.needs[uid], changed = n, true
		}
	}
	if !c.made {
		least := uint64(qos.MinShares)
		if err := c.tree.Ensure(treeBestEffort, cgroup.Resources{CPUShares: &least}); err != nil {
			return err
		}
	}
	if !c.made || changed {
		if err := c.weighLocked(); err != nil {
			return err
		}
	}
	c.made = true
	return nil
}

func (c *Cgroups) resources(pod *v1.Pod) cgroup.Resources {
	return c.translate(qos.ForPod(pod, c.settings))
}

// Remove removes the cgroup of the Pod, and ends what is left in it; one that is gone is no error.
func (c *Cgroups) Remove(uid types.UID) error {
	var failed []error
	for _, class := range []v1.PodQOSClass{v1.PodQOSGuaranteed, v1.PodQOSBurstable, v1.PodQOSBestEffort} {
		failed = append(failed, c.remove(place(class, uid)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.needs[uid]; ok {
		delete(c.needs, uid)
		failed = append(failed, c.weighLocked())
	}
	return errors.Join(failed...)
}

// Pods returns the Pods that have a cgroup.
func (c *Cgroups) Pods() (uids []types.UID, err error) {
	seen := map[types.UID]bool{}
	for _, level := range []string{treeRoot, treeBurstable, treeBestEffort} {
		names, err := c.tree.Children(level)
		if err != nil {
			return nil, fmt.Errorf("look for the cgroups of pods: %w", err)
		}
		for _, name := range names {
			uid, isPod := strings.CutPrefix(name, podPrefix)
			if isPod && !seen[types.UID(uid)] {
				seen[types.UID(uid)] = true
				uids = append(uids, types.UID(uid))
			}
		}
	}
	return uids, nil
}

func (c *Cgroups) remove(p string) error {
	err := c.tree.Remove(p)
	if !errors.Is(err, cgroup.ErrBusy) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := c.tree.Kill(ctx, p); err != nil {
		return err
	}
	return c.tree.Remove(p)
}
