package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/podutil"
	podcache "podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/plugins"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// Cluster is the input of an explanation: the objects that a decision depends on. Only volumes and namespaces
// that concern the Pod are needed.
type Cluster struct {
	Nodes      []corev1.Node
	Pods       []corev1.Pod
	Namespaces []corev1.Namespace
	Claims     []corev1.PersistentVolumeClaim
	Volumes    []corev1.PersistentVolume
	Classes    []storagev1.StorageClass
	// Drivers are the CSI drivers of the nodes, Known those of the cluster.
	Drivers     []storagev1.CSINode
	Known       []storagev1.CSIDriver
	Attachments []storagev1.VolumeAttachment
}

// Explanation explains why a Pod has no node.
type Explanation struct {
	// Held is set if the Pod is not decided on at all, for example because of its scheduling gates.
	Held string
	// Whole is what excludes all nodes at once, or "".
	Whole string
	// Nodes lists for each node what keeps the Pod off it.
	Nodes []NodeExplanation
}

// NodeExplanation lists what keeps a Pod off a node: every rule, not only the first. None means that the Pod
// would fit now.
type NodeExplanation struct {
	Node    string
	Details []framework.Detail
}

// Explain explains why the Pod has no node, by the rules of the default profile and from the given objects
// only. It returns an error if one of the Pod's rules cannot be parsed.
func Explain(pod *corev1.Pod, cluster *Cluster) (Explanation, error) {
	objects := newObjects(cluster)
	nominated := queue.NewNominated()
	p, err := profileOver(objects, nominated)
	if err != nil {
		return Explanation{}, err
	}
	known := podcache.New()
	for i := range cluster.Nodes {
		known.SetNode(&cluster.Nodes[i])
	}
	for i := range cluster.Pods {
		other := &cluster.Pods[i]
		switch {
		case other.UID == pod.UID || podutil.Ended(other):
		case other.Spec.NodeName != "":
			known.SetPod(framework.NewPodInfo(other))
		case other.Status.NominatedNodeName != "":
			nominated.Set(framework.NewPodInfo(other), other.Status.NominatedNodeName)
		}
	}
	info := framework.NewPodInfo(pod)
	if gate := p.Gate(info); gate != nil {
		return Explanation{Held: gate.Message()}, nil
	}
	snapshot := framework.NewSnapshot()
	known.Update(snapshot)
	cycle, whole := p.Begin(info, snapshot)
	if whole != nil {
		return Explanation{Whole: whole.Message()}, whole.Err
	}
	var out Explanation
	for _, node := range snapshot.Nodes {
		out.Nodes = append(out.Nodes, NodeExplanation{Node: node.Node.Name, Details: cycle.Explain(node)})
	}
	return out, nil
}

// profileOver returns the default profile with its plugins reading the given objects. It decides and carries
// nothing out.
func profileOver(o *objects, nominated *queue.Nominated) (*profile.Profile, error) {
	var enabled []profile.Enabled
	for _, w := range defaultPlugins {
		plugin, err := plugins.New(w.Name, nil, plugins.Dependencies{
			Namespaces: o, Volumes: o,
			Siblings: func(*corev1.Pod) labels.Selector { return labels.Everything() }, // used by scores only
			Budgets:  func() []*policyv1.PodDisruptionBudget { return nil },
			Preempt:  func(p plugins.Preemption) { p.Finish() },
		})
		if err != nil {
			return nil, err
		}
		enabled = append(enabled, profile.Enabled{Plugin: plugin, Weight: w.Weight})
	}
	return profile.New(corev1.DefaultSchedulerName, 0, nominated, enabled)
}

// objects finds what plugins ask for among the objects of a Cluster.
type objects struct {
	namespaces map[string]labels.Set
	claims     map[types.NamespacedName]*corev1.PersistentVolumeClaim
	volumes    map[string]*corev1.PersistentVolume
	classes    map[string]*storagev1.StorageClass
	drivers    map[string]*storagev1.CSINode
	known      map[string]*storagev1.CSIDriver
	attached   map[string][]*storagev1.VolumeAttachment
}

func newObjects(c *Cluster) *objects {
	o := &objects{
		namespaces: map[string]labels.Set{}, claims: map[types.NamespacedName]*corev1.PersistentVolumeClaim{},
		volumes: map[string]*corev1.PersistentVolume{}, classes: map[string]*storagev1.StorageClass{}, drivers: map[string]*storagev1.CSINode{},
		known: map[string]*storagev1.CSIDriver{}, attached: map[string][]*storagev1.VolumeAttachment{},
	}
	for i := range c.Namespaces {
		o.namespaces[c.Namespaces[i].Name] = c.Namespaces[i].Labels
	}
	for i := range c.Claims {
		o.claims[types.NamespacedName{Namespace: c.Claims[i].Namespace, Name: c.Claims[i].Name}] = &c.Claims[i]
	}
	for i := range c.Volumes {
		o.volumes[c.Volumes[i].Name] = &c.Volumes[i]
	}
	for i := range c.Classes {
		o.classes[c.Classes[i].Name] = &c.Classes[i]
	}
	for i := range c.Drivers {
		o.drivers[c.Drivers[i].Name] = &c.Drivers[i]
	}
	for i := range c.Known {
		o.known[c.Known[i].Name] = &c.Known[i]
	}
	for i := range c.Attachments {
		node := c.Attachments[i].Spec.NodeName
		o.attached[node] = append(o.attached[node], &c.Attachments[i])
	}
	return o
}

// Labels implements framework.Namespaces.
func (o *objects) Labels(namespace string) labels.Set { return o.namespaces[namespace] }

// Claim implements plugins.Volumes.
func (o *objects) Claim(namespace, name string) *corev1.PersistentVolumeClaim {
	return o.claims[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Volume implements plugins.Volumes.
func (o *objects) Volume(name string) *corev1.PersistentVolume { return o.volumes[name] }

// Class implements plugins.Volumes.
func (o *objects) Class(name string) *storagev1.StorageClass { return o.classes[name] }

// Drivers implements plugins.Volumes.
func (o *objects) Drivers(node string) *storagev1.CSINode { return o.drivers[node] }

// Driver implements plugins.Volumes.
func (o *objects) Driver(name string) *storagev1.CSIDriver { return o.known[name] }

// Attachments implements plugins.Volumes.
func (o *objects) Attachments(node string) []*storagev1.VolumeAttachment { return o.attached[node] }
