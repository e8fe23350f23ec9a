// Package resourcequota maintains the status of ResourceQuotas: how much of each bounded resource is in use.
//
// Admission charges a new object to the quotas before anybody can see the object. Usage is therefore counted
// again only when something is deleted or uses less, when a quota changes, and every few minutes for objects
// that were charged but never created. A count at any other time could miss what was charged a moment ago and
// admit more than there is room for.
package resourcequota

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/quota"
	"podium.dev/podium/internal/util/loop"
)

// Controller maintains the quotas' status.
type Controller struct {
	client   kubernetes.Interface
	metadata metadata.Interface
	quotas   corelisters.ResourceQuotaLister
	pods     corelisters.PodLister
	services corelisters.ServiceLister
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]
}

// New returns a controller.
func New(client kubernetes.Interface, meta metadata.Interface, src *sources.Sources, c clock.Clock) *Controller {
	quotas, pods, services := src.All().Core().V1().ResourceQuotas(), src.Pods(), src.All().Core().V1().Services()
	k := &Controller{
		client: client, metadata: meta, clock: c, quotas: quotas.Lister(), pods: pods.Lister(), services: services.Lister(),
		synced: []cache.InformerSynced{quotas.Informer().HasSynced, pods.Informer().HasSynced, services.Informer().HasSynced},
	}
	k.loop = loop.New("resourcequota", c, 4, k.sync)
	sources.OnDiff(quotas.Informer(), func(_, now *corev1.ResourceQuota) {
		if now != nil && (now.Status.Used == nil || !equality.Semantic.DeepEqual(now.Spec.Hard, now.Status.Hard)) {
			k.loop.Add(sources.NameOf(now))
		}
	})
	sources.OnDiff(pods.Informer(), func(old, now *corev1.Pod) {
		if old != nil && (now == nil || quota.Terminating(old) != quota.Terminating(now) || !equality.Semantic.DeepEqual(quota.PodUsage(old, c.Now()), quota.PodUsage(now, c.Now()))) {
			k.touch(old.Namespace)
		}
	})
	sources.OnDiff(services.Informer(), func(old, now *corev1.Service) {
		if old != nil && (now == nil || !equality.Semantic.DeepEqual(quota.ServiceUsage(old), quota.ServiceUsage(now))) {
			k.touch(old.Namespace)
		}
	})
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// settle is how long changes are gathered before usage is counted again.
const settle = 20 * time.Millisecond

// recount is how often usage is counted again in any case (kube-controller-manager's
// --resource-quota-sync-period).
const recount = 5 * time.Minute

// OnRemoved handles the deletion of an object in a namespace.
func (k *Controller) OnRemoved(namespace string) { k.touch(namespace) }

// touch schedules a recount of the quotas of a namespace.
func (k *Controller) touch(namespace string) {
	quotas, _ := k.quotas.ResourceQuotas(namespace).List(labels.Everything()) // the informer's store does not fail
	for _, q := range quotas {
		k.loop.AddAfter(types.NamespacedName{Namespace: namespace, Name: q.Name}, settle)
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	// Read from the server: a stale quota would not include what was charged for an object that was just
	// deleted.
	quota, err := k.client.CoreV1().ResourceQuotas(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && quota.DeletionTimestamp != nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read quota %s: %w", name, err)
	}
	used, err := k.used(ctx, quota)
	if err != nil {
		return 0, fmt.Errorf("count the usage of quota %s: %w", name, err)
	}
	status := corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: used}
	if equality.Semantic.DeepEqual(quota.Status, status) {
		return recount, nil
	}
	out := quota.DeepCopy()
	out.Status = status
	_, err = k.client.CoreV1().ResourceQuotas(name.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
	switch {
	case apierrors.IsConflict(err):
		return settle, nil
	case apierrors.IsNotFound(err):
		return 0, nil
	case err == nil:
		return recount, nil
	}
	return 0, fmt.Errorf("write the status of quota %s: %w", name, err)
}

// used counts what the quota bounds.
func (k *Controller) used(ctx context.Context, object *corev1.ResourceQuota) (corev1.ResourceList, error) {
	hard := object.Spec.Hard
	used := corev1.ResourceList{}
	for name := range hard {
		used[name] = *resource.NewQuantity(0, hard[name].Format)
	}
	pods, err := k.pods.Pods(object.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if quota.Selects(object, p) {
			add(used, quota.PodUsage(p, k.clock.Now()), hard)
		}
	}
	services, err := k.services.Services(object.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		add(used, quota.ServiceUsage(s), hard)
	}
	if boundsClaims(hard) {
		claims, err := k.client.CoreV1().PersistentVolumeClaims(object.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range claims.Items {
			add(used, quota.ClaimUsage(&claims.Items[i]), hard)
		}
	}
	for name := range hard {
		gvr, ok := counted(name)
		if !ok {
			continue
		}
		n, err := k.count(ctx, gvr, object.Namespace)
		if err != nil {
			return nil, err
		}
		used[name] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	return used, nil
}

func boundsClaims(hard corev1.ResourceList) bool {
	for name := range hard {
		s := string(name)
		if name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage ||
			s == "count/persistentvolumeclaims" || strings.Contains(s, quota.StorageClassSuffix) {
			return true
		}
	}
	return false
}

// counted returns the resource whose number of objects the name bounds, if it is counted by listing.
func counted(name corev1.ResourceName) (schema.GroupResource, bool) {
	switch name {
	case corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourceReplicationControllers, corev1.ResourceQuotas:
		return corev1.Resource(string(name)), true
	case "count/pods", "count/services", "count/persistentvolumeclaims":
		return schema.GroupResource{}, false
	}
	rest, ok := strings.CutPrefix(string(name), "count/")
	if !ok {
		return schema.GroupResource{}, false
	}
	return schema.ParseGroupResource(rest), true
}

// count counts the objects of a resource in a namespace.
func (k *Controller) count(ctx context.Context, resource schema.GroupResource, namespace string) (int64, error) {
	version, err := k.version(resource)
	if version == "" || err != nil {
		return 0, err
	}
	list, err := k.metadata.Resource(resource.WithVersion(version)).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int64(len(list.Items)), nil
}

// version returns the version in which the server prefers to serve a group, or "" if it does not serve the
// resource.
func (k *Controller) version(resource schema.GroupResource) (string, error) {
	if resource.Group == "" {
		return "v1", nil
	}
	groups, err := k.client.Discovery().ServerGroups()
	if err != nil {
		return "", fmt.Errorf("list the server's groups: %w", err)
	}
	for _, g := range groups.Groups {
		if g.Name == resource.Group {
			return g.PreferredVersion.Version, nil
		}
	}
	return "", nil
}

// add adds b to a, for the names that a quota bounds.
func add(a, b corev1.ResourceList, bounds corev1.ResourceList) {
	for name, q := range b {
		if _, ok := bounds[name]; !ok {
			continue
		}
		sum := a[name]
		sum.Add(q)
		a[name] = sum
	}
}
