package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/scheduler"
)

// Reader reads facts through the API.
type Reader struct {
	Client kubernetes.Interface
	Clock  clock.PassiveClock

	// nodes and pods are read once, however many Pods are explained.
	nodes []corev1.Node
	pods  []corev1.Pod
}

// Pod reads the facts about a Pod. For a Pod that does not exist it reads events. It returns an error only if
// the Pod itself cannot be read; anything else that cannot be read is listed in Unread.
func (r *Reader) Pod(ctx context.Context, namespace, name string) (*Facts, error) {
	pod, err := r.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return r.gone(ctx, namespace, name), nil
	case err != nil:
		return nil, fmt.Errorf("read Pod %s/%s: %w", namespace, name, err)
	}
	return r.about(ctx, pod), nil
}

// about reads what concerns a Pod.
func (r *Reader) about(ctx context.Context, pod *corev1.Pod) *Facts {
	f := &Facts{Now: r.Clock.Now(), Namespace: pod.Namespace, Name: pod.Name, Pod: pod}
	f.Events = r.events(ctx, f, pod.Namespace, fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)))
	switch {
	case f.over():
	case pod.Spec.NodeName == "":
		if len(pod.Spec.SchedulingGates) == 0 {
			r.cluster(ctx, f)
		}
	default:
		r.placed(ctx, f)
	}
	return f
}

// note records a failed read and reports whether it succeeded. An object that does not exist is not recorded.
func (f *Facts) note(what string, err error) bool {
	if err != nil && !apierrors.IsNotFound(err) {
		f.Unread = append(f.Unread, fmt.Sprintf("%s: %v", what, err))
	}
	return err == nil
}

func (r *Reader) events(ctx context.Context, f *Facts, namespace string, selector fields.Selector) []corev1.Event {
	list, err := r.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: selector.String()})
	if !f.note("events", err) {
		return nil
	}
	return list.Items
}

// placed reads what a Pod with a node depends on.
func (r *Reader) placed(ctx context.Context, f *Facts) {
	node, err := r.Client.CoreV1().Nodes().Get(ctx, f.Pod.Spec.NodeName, metav1.GetOptions{})
	if f.note("the Pod's node", err) {
		f.Node = node
	}
	f.Sources = map[Source]Keys{}
	for _, use := range Uses(f.Pod) {
		if _, done := f.Sources[use.Source]; !done {
			f.Sources[use.Source] = r.source(ctx, f, use.Source)
		}
	}
	r.claims(ctx, f)
}

func (r *Reader) claims(ctx context.Context, f *Facts) {
	for _, name := range ClaimNames(f.Pod) {
		claim, err := r.Client.CoreV1().PersistentVolumeClaims(f.Namespace).Get(ctx, name, metav1.GetOptions{})
		if f.note("claim "+name, err) {
			f.Claims = append(f.Claims, *claim)
		}
	}
}

// source reads the keys of a source. The values are dropped.
func (r *Reader) source(ctx context.Context, f *Facts, s Source) Keys {
	var keys Keys
	var err error
	if s.Kind == "Secret" {
		var o *corev1.Secret
		if o, err = r.Client.CoreV1().Secrets(f.Namespace).Get(ctx, s.Name, metav1.GetOptions{}); err == nil {
			for key := range o.Data {
				keys.Names = append(keys.Names, key)
			}
		}
	} else {
		var o *corev1.ConfigMap
		if o, err = r.Client.CoreV1().ConfigMaps(f.Namespace).Get(ctx, s.Name, metav1.GetOptions{}); err == nil {
			for key := range o.Data {
				keys.Names = append(keys.Names, key)
			}
			for key := range o.BinaryData {
				keys.Names = append(keys.Names, key)
			}
		}
	}
	keys.Missing = apierrors.IsNotFound(err)
	keys.Unknown = !f.note(s.Kind+" "+s.Name, err) && !keys.Missing
	slices.Sort(keys.Names)
	return keys
}

// cluster reads what a scheduling decision on the Pod depends on.
func (r *Reader) cluster(ctx context.Context, f *Facts) {
	if r.nodes == nil && !r.all(ctx, f) {
		return
	}
	f.Cluster = &scheduler.Cluster{Nodes: r.nodes, Pods: r.pods}
	if a := f.Pod.Spec.Affinity; a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) || slices.ContainsFunc(r.pods, selectsNamespaces) {
		if all, err := r.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); f.note("namespaces", err) {
			f.Cluster.Namespaces = all.Items
		}
	}
	if len(ClaimNames(f.Pod)) > 0 {
		r.storage(ctx, f)
	}
}

// all reads all nodes and the Pods that take something from them.
func (r *Reader) all(ctx context.Context, f *Facts) bool {
	nodes, err := r.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if !f.note("nodes", err) {
		return false
	}
	live := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	pods, err := r.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: live.String()})
	if !f.note("the Pods of all namespaces", err) {
		return false
	}
	r.nodes, r.pods = nodes.Items, pods.Items
	return true
}

// selectsNamespaces reports whether the Pod's anti-affinity, which also affects other Pods, selects namespaces.
func selectsNamespaces(pod corev1.Pod) bool {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, func(t corev1.PodAffinityTerm) bool {
		return t.NamespaceSelector != nil
	})
}

// storage reads the objects behind the Pod's claims, and behind those of the other Pods on the nodes, which
// count against the nodes' limits.
func (r *Reader) storage(ctx context.Context, f *Facts) {
	c := f.Cluster
	if all, err := r.Client.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}); f.note("claims of all namespaces", err) {
		c.Claims = all.Items
	} else {
		r.claims(ctx, f)
		c.Claims = f.Claims
	}
	if all, err := r.Client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{}); f.note("volumes", err) {
		c.Volumes = all.Items
	}
	var err error
	var classes *storagev1.StorageClassList
	if classes, err = r.Client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{}); f.note("storage classes", err) {
		c.Classes = classes.Items
	}
	var drivers *storagev1.CSINodeList
	if drivers, err = r.Client.StorageV1().CSINodes().List(ctx, metav1.ListOptions{}); f.note("CSI nodes", err) {
		c.Drivers = drivers.Items
	}
	var known *storagev1.CSIDriverList
	if known, err = r.Client.StorageV1().CSIDrivers().List(ctx, metav1.ListOptions{}); f.note("CSI drivers", err) {
		c.Known = known.Items
	}
	var attached *storagev1.VolumeAttachmentList
	if attached, err = r.Client.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{}); f.note("volume attachments", err) {
		c.Attachments = attached.Items
	}
}

// gone reads the events about a Pod that does not exist: its own, or those of an owner that could not make it.
func (r *Reader) gone(ctx context.Context, namespace, name string) *Facts {
	f := &Facts{Now: r.Clock.Now(), Namespace: namespace, Name: name}
	for _, e := range r.events(ctx, f, namespace, fields.Everything()) {
		own := e.InvolvedObject.Kind == "Pod" && e.InvolvedObject.Name == name
		owners := e.Reason == "FailedCreate" && (e.InvolvedObject.Name == name || strings.HasPrefix(name, e.InvolvedObject.Name+"-"))
		if own || owners {
			f.Events = append(f.Events, e)
		}
	}
	if slices.ContainsFunc(f.Events, func(e corev1.Event) bool { return e.Reason == "FailedCreate" }) {
		r.rules(ctx, f)
	}
	return f
}

// rules reads the quotas and limit ranges of the namespace.
func (r *Reader) rules(ctx context.Context, f *Facts) {
	if all, err := r.Client.CoreV1().ResourceQuotas(f.Namespace).List(ctx, metav1.ListOptions{}); f.note("quotas", err) {
		f.Quotas = all.Items
	}
	if all, err := r.Client.CoreV1().LimitRanges(f.Namespace).List(ctx, metav1.ListOptions{}); f.note("limit ranges", err) {
		f.Ranges = all.Items
	}
}

// podsOfOwner bounds the Pods of an owner that are read.
const podsOfOwner = 50

// Owner reads the facts about an object that makes Pods: about itself, about the objects it made for that
// purpose (the ReplicaSets of a Deployment, the Jobs of a CronJob), and about their Pods.
func (r *Reader) Owner(ctx context.Context, owner *unstructured.Unstructured) (*Facts, error) {
	f := &Facts{Now: r.Clock.Now(), Namespace: owner.GetNamespace(), Name: owner.GetName(), Owner: owner}
	makers := map[types.UID]bool{owner.GetUID(): true}
	if sets, err := r.Client.AppsV1().ReplicaSets(f.Namespace).List(ctx, metav1.ListOptions{}); f.note("replica sets", err) {
		for i := range sets.Items {
			adopt(makers, &sets.Items[i])
		}
	}
	if jobs, err := r.Client.BatchV1().Jobs(f.Namespace).List(ctx, metav1.ListOptions{}); f.note("jobs", err) {
		for i := range jobs.Items {
			adopt(makers, &jobs.Items[i])
		}
	}
	for _, e := range r.events(ctx, f, f.Namespace, fields.Everything()) {
		if makers[e.InvolvedObject.UID] {
			f.Events = append(f.Events, e)
		}
	}
	r.rules(ctx, f)
	pods, err := r.Client.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the Pods of namespace %s: %w", f.Namespace, err)
	}
	var made []*corev1.Pod
	for i := range pods.Items {
		if c := metav1.GetControllerOf(&pods.Items[i]); c != nil && makers[c.UID] {
			made = append(made, &pods.Items[i])
		}
	}
	read, further := worst(made, podsOfOwner)
	for _, p := range read {
		f.Pods = append(f.Pods, r.about(ctx, p))
	}
	for _, p := range further {
		if isLive(p) {
			f.FurtherPods++
		}
	}
	if len(further) > 0 {
		f.Unread = append(f.Unread, plural(len(further), "further Pod", "further Pods"))
	}
	return f, nil
}

// worst returns the Pods to read about, at most n, and the others. Those that may be in trouble come first.
func worst(pods []*corev1.Pod, n int) (read, further []*corev1.Pod) {
	rank := func(p *corev1.Pod) int {
		switch {
		case podutil.IsReady(p):
			return 2
		case podutil.Ended(p):
			return 1
		}
		return 0
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(rank(a), rank(b)) })
	n = min(n, len(pods))
	return pods[:n], pods[n:]
}

// isLive reports whether the Pod counts among those that its owner has.
func isLive(p *corev1.Pod) bool { return !podutil.Ended(p) && p.DeletionTimestamp == nil }

// adopt adds an object to the makers if one of them controls it.
func adopt(makers map[types.UID]bool, o metav1.Object) {
	if c := metav1.GetControllerOf(o); c != nil && makers[c.UID] {
		makers[o.GetUID()] = true
	}
}
