package scheduler

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// lazy holds the watches that only some decisions need: namespaces if a Pod's affinity selects them by label,
// disruption budgets if something is preempted, services and owners if Pods are spread over nodes, claims and
// volumes if a Pod has persistent volumes. Each watch starts at its first use; the decision that needs it waits
// for the first list.
type lazy struct {
	factory informers.SharedInformerFactory
	// changed is called for every change of a namespace.
	changed func(old, now *corev1.Namespace)
	handle  sync.Once
	// claimed is called for every change of a claim, volume, storage class, driver or attachment.
	claimed func()
	claims  sync.Once

	mu      sync.Mutex
	ctx     context.Context
	started map[cache.SharedIndexInformer]bool
}

func newLazy(client kubernetes.Interface) *lazy {
	return &lazy{
		factory: informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim), informers.WithTweakListOptions(current)),
		started: map[cache.SharedIndexInformer]bool{},
	}
}

// need starts an informer and waits until it has synced. It returns false before the scheduler runs and after
// it ended.
func (l *lazy) need(i cache.SharedIndexInformer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil {
		return false
	}
	if !l.started[i] {
		l.factory.Start(l.ctx.Done())
		l.started[i] = cache.WaitForCacheSync(l.ctx.Done(), i.HasSynced)
	}
	return l.started[i]
}

// Labels implements framework.Namespaces.
func (l *lazy) Labels(namespace string) labels.Set {
	informer := l.factory.Core().V1().Namespaces()
	i := informer.Informer()
	l.handle.Do(func() {
		// It fails only for an informer that was stopped.
		_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, now any) {
			l.changed(as[corev1.Namespace](old), as[corev1.Namespace](now))
		}})
	})
	if !l.need(i) {
		return nil
	}
	ns, err := informer.Lister().Get(namespace)
	if err != nil {
		return nil
	}
	return ns.Labels
}

// budgets returns all disruption budgets.
func (l *lazy) budgets() []*policyv1.PodDisruptionBudget {
	informer := l.factory.Policy().V1().PodDisruptionBudgets()
	if !l.need(informer.Informer()) {
		return nil
	}
	all, err := informer.Lister().List(labels.Everything())
	if err != nil {
		return nil // the informer's store does not fail
	}
	return all
}

// Claim implements plugins.Volumes.
func (l *lazy) Claim(namespace, name string) *corev1.PersistentVolumeClaim {
	if !l.needVolumes() {
		return nil
	}
	claim, err := l.factory.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(namespace).Get(name)
	if err != nil {
		return nil
	}
	return claim
}

// Volume implements plugins.Volumes.
func (l *lazy) Volume(name string) *corev1.PersistentVolume {
	if !l.needVolumes() {
		return nil
	}
	volume, err := l.factory.Core().V1().PersistentVolumes().Lister().Get(name)
	if err != nil {
		return nil
	}
	return volume
}

// Class implements plugins.Volumes.
func (l *lazy) Class(name string) *storagev1.StorageClass {
	if !l.needVolumes() {
		return nil
	}
	class, err := l.factory.Storage().V1().StorageClasses().Lister().Get(name)
	if err != nil {
		return nil
	}
	return class
}

// Drivers implements plugins.Volumes.
func (l *lazy) Drivers(node string) *storagev1.CSINode {
	if !l.needVolumes() {
		return nil
	}
	drivers, err := l.factory.Storage().V1().CSINodes().Lister().Get(node)
	if err != nil {
		return nil
	}
	return drivers
}

// Driver implements plugins.Volumes.
func (l *lazy) Driver(name string) *storagev1.CSIDriver {
	if !l.needVolumes() {
		return nil
	}
	driver, err := l.factory.Storage().V1().CSIDrivers().Lister().Get(name)
	if err != nil {
		return nil
	}
	return driver
}

// attachedTo names the index of attachments by node.
const attachedTo = "node"

// Attachments implements plugins.Volumes.
func (l *lazy) Attachments(node string) []*storagev1.VolumeAttachment {
	if !l.needVolumes() {
		return nil
	}
	found, err := l.factory.Storage().V1().VolumeAttachments().Informer().GetIndexer().ByIndex(attachedTo, node)
	if err != nil {
		return nil // the index exists
	}
	out := make([]*storagev1.VolumeAttachment, 0, len(found))
	for _, o := range found {
		if a, ok := o.(*storagev1.VolumeAttachment); ok {
			out = append(out, a)
		}
	}
	return out
}

// needVolumes starts the watches of claims, volumes, classes, drivers and attachments, and waits until they
// have synced.
func (l *lazy) needVolumes() bool {
	all := []cache.SharedIndexInformer{
		l.factory.Core().V1().PersistentVolumeClaims().Informer(),
		l.factory.Core().V1().PersistentVolumes().Informer(),
		l.factory.Storage().V1().StorageClasses().Informer(),
		l.factory.Storage().V1().CSINodes().Informer(),
		l.factory.Storage().V1().CSIDrivers().Informer(),
		l.factory.Storage().V1().VolumeAttachments().Informer(),
	}
	l.claims.Do(func() {
		changed := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { l.claimed() }, UpdateFunc: func(_, _ any) { l.claimed() }, DeleteFunc: func(any) { l.claimed() }}
		for _, i := range all {
			_, _ = i.AddEventHandler(changed) // it fails only for an informer that was stopped
		}
		// It fails only for an index that exists already.
		_ = l.factory.Storage().V1().VolumeAttachments().Informer().AddIndexers(cache.Indexers{attachedTo: func(o any) ([]string, error) {
			a, ok := o.(*storagev1.VolumeAttachment)
			if !ok {
				return nil, nil
			}
			return []string{a.Spec.NodeName}, nil
		}})
	})
	for _, i := range all {
		if !l.need(i) {
			return false
		}
	}
	return true
}

// siblings returns a selector of the Pods that have the same services and owner as the Pod. Without any, it
// selects everything.
func (l *lazy) siblings(pod *corev1.Pod) labels.Selector {
	own := labels.Set{}
	services := l.factory.Core().V1().Services()
	if l.need(services.Informer()) {
		all, _ := services.Lister().Services(pod.Namespace).List(labels.Everything()) // the store does not fail
		for _, s := range all {
			if s.Spec.Selector != nil && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				own = labels.Merge(own, s.Spec.Selector)
			}
		}
	}
	selector := labels.SelectorFromSet(own)
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return selector
	}
	if requirements, selectable := l.ownerSelector(pod.Namespace, owner).Requirements(); selectable {
		selector = selector.Add(requirements...)
	}
	return selector
}

// ownerSelector returns the selector of a Pod's owner. It selects everything if the owner's kind is unknown or
// has no selector.
func (l *lazy) ownerSelector(namespace string, owner *metav1.OwnerReference) labels.Selector {
	var selector *metav1.LabelSelector
	switch owner.APIVersion + "/" + owner.Kind {
	case "v1/ReplicationController":
		informer := l.factory.Core().V1().ReplicationControllers()
		if l.need(informer.Informer()) {
			if rc, err := informer.Lister().ReplicationControllers(namespace).Get(owner.Name); err == nil {
				return labels.SelectorFromSet(rc.Spec.Selector)
			}
		}
	case "apps/v1/ReplicaSet":
		informer := l.factory.Apps().V1().ReplicaSets()
		if l.need(informer.Informer()) {
			if rs, err := informer.Lister().ReplicaSets(namespace).Get(owner.Name); err == nil {
				selector = rs.Spec.Selector
			}
		}
	case "apps/v1/StatefulSet":
		informer := l.factory.Apps().V1().StatefulSets()
		if l.need(informer.Informer()) {
			if ss, err := informer.Lister().StatefulSets(namespace).Get(owner.Name); err == nil {
				selector = ss.Spec.Selector
			}
		}
	}
	if selector == nil {
		return labels.Everything()
	}
	out, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Everything()
	}
	return out
}

func (l *lazy) start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx = ctx
}

func (l *lazy) wait() { l.factory.Shutdown() }
