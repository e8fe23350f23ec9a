package scheduler

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// sources are the watches. Pods that have ended are not watched: they take no room, and their end is seen as a
// deletion.
type sources struct {
	running informers.SharedInformerFactory // of Pods that have not ended
	others  informers.SharedInformerFactory
	regs    []cache.ResourceEventHandlerRegistration
	*lazy
}

func newSources(client kubernetes.Interface) *sources {
	running := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed))).String()
	return &sources{
		running: informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = running; current(o) })),
		others: informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim), informers.WithTweakListOptions(current)),
		lazy:   newLazy(client),
	}
}

// current has a list show what is in the store now. A list that a watch cache answers may be older than the last
// binding of the leader before this one; an informer asks for such a list when its watch-list fails.
func current(o *metav1.ListOptions) {
	if o.ResourceVersion == "0" {
		o.ResourceVersion = ""
	}
}

func (s *sources) pods() corelisters.PodLister { return s.running.Core().V1().Pods().Lister() }

// on registers a handler for a kind's events.
func (s *sources) on(i cache.SharedIndexInformer, h cache.ResourceEventHandlerFuncs) {
	// It fails only for an informer that was stopped, and none of these is before it is started.
	if reg, err := i.AddEventHandler(h); err == nil {
		s.regs = append(s.regs, reg)
	}
}

func (s *sources) start(ctx context.Context) {
	s.running.Start(ctx.Done())
	s.others.Start(ctx.Done())
	s.lazy.start(ctx)
}

// synced returns functions that report whether the handlers have seen the first lists.
func (s *sources) synced() []cache.InformerSynced {
	out := make([]cache.InformerSynced, 0, len(s.regs))
	for _, reg := range s.regs {
		out = append(out, reg.HasSynced)
	}
	return out
}

func (s *sources) wait() {
	s.running.Shutdown()
	s.others.Shutdown()
	s.lazy.wait()
}

// trim drops what no decision reads. Its objects come straight from the wire, so nothing else holds them.
func trim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
		if _, isClaim := obj.(*corev1.PersistentVolumeClaim); !isClaim { // may name its class in an annotation
			m.SetAnnotations(nil)
		}
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		trimPod(o)
	case *corev1.Node:
		o.Status.VolumesAttached, o.Status.VolumesInUse = nil, nil
		o.Status.Conditions, o.Status.Addresses = nil, nil
	case *corev1.Namespace:
		o.Spec, o.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *appsv1.ReplicaSet:
		o.Spec.Template, o.Status = corev1.PodTemplateSpec{}, appsv1.ReplicaSetStatus{}
	case *appsv1.StatefulSet:
		o.Spec.Template, o.Spec.VolumeClaimTemplates, o.Status = corev1.PodTemplateSpec{}, nil, appsv1.StatefulSetStatus{}
	case *corev1.ReplicationController:
		o.Spec.Template, o.Status = nil, corev1.ReplicationControllerStatus{}
	}
	return obj, nil
}

func trimPod(pod *corev1.Pod) {
	spec, status := &pod.Spec, &pod.Status
	pod.Finalizers = nil
	pod.Spec = corev1.PodSpec{
		Volumes:                   spec.Volumes,
		InitContainers:            trimContainers(spec.InitContainers),
		Containers:                trimContainers(spec.Containers),
		NodeSelector:              spec.NodeSelector,
		NodeName:                  spec.NodeName,
		Affinity:                  spec.Affinity,
		SchedulerName:             spec.SchedulerName,
		Tolerations:               spec.Tolerations,
		PriorityClassName:         spec.PriorityClassName,
		Priority:                  spec.Priority,
		PreemptionPolicy:          spec.PreemptionPolicy,
		Overhead:                  spec.Overhead,
		TopologySpreadConstraints: spec.TopologySpreadConstraints,
		SchedulingGates:           spec.SchedulingGates,
		Resources:                 spec.Resources,
		HostNetwork:               spec.HostNetwork,
	}
	pod.Status = corev1.PodStatus{
		Phase:                 status.Phase,
		Conditions:            status.Conditions,
		NominatedNodeName:     status.NominatedNodeName,
		StartTime:             status.StartTime,
		Resize:                status.Resize,
		Resources:             status.Resources,
		AllocatedResources:    status.AllocatedResources,
		InitContainerStatuses: trimStatuses(status.InitContainerStatuses),
		ContainerStatuses:     trimStatuses(status.ContainerStatuses),
	}
}

func trimContainers(all []corev1.Container) []corev1.Container {
	for i, c := range all {
		all[i] = corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources, RestartPolicy: c.RestartPolicy, RestartPolicyRules: c.RestartPolicyRules}
	}
	return all
}

func trimStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	for i, c := range all {
		all[i] = corev1.ContainerStatus{Name: c.Name, Resources: c.Resources, AllocatedResources: c.AllocatedResources}
	}
	return all
}
