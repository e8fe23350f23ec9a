package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	kubeletapis "k8s.io/kubelet/pkg/apis"

	"podium.dev/podium/internal/apistore"
)

// Restriction is the admission that keeps nodes from writing what is not theirs.
type Restriction struct {
	*admission.Handler
	stores apistore.Stores
	all    authorizer.UnconditionalAuthorizer
}

var _ admission.MutationInterface = &Restriction{}

// NewRestriction makes the admission. all decides whether a node may ask for tokens for an audience that the
// Pod itself does not name.
func NewRestriction(stores apistore.Stores, all authorizer.UnconditionalAuthorizer) *Restriction {
	return &Restriction{
		Handler: admission.NewHandler(admission.Create, admission.Update, admission.Delete), stores: stores, all: all,
	}
}

// Admit implements admission.MutationInterface; it changes nothing.
func (r *Restriction) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	name, isNode := Identity(a.GetUserInfo())
	if !isNode {
		return nil
	}
	err := r.check(ctx, name, a)
	if err == nil || apierrors.IsNotFound(err) {
		return err
	}
	return admission.NewForbidden(a, err)
}

func (r *Restriction) check(ctx context.Context, name string, a admission.Attributes) error {
	if name == "" {
		return fmt.Errorf("could not determine node from user %q", a.GetUserInfo().GetName())
	}
	switch a.GetResource().GroupResource() {
	case apistore.Core("pods"):
		switch a.GetSubresource() {
		case "":
			return r.pod(ctx, name, a)
		case "status":
			return podStatus(name, a)
		case "eviction":
			return r.eviction(ctx, name, a)
		}
		return fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.GetSubresource())
	case apistore.Core("nodes"):
		return ownNode(name, a)
	case apistore.Core("serviceaccounts"):
		if a.GetOperation() == admission.Create && a.GetSubresource() == "token" {
			return r.token(ctx, name, a)
		}
	case apistore.Core("persistentvolumeclaims"):
		return claimStatus(name, a)
	case schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}:
		return ownLease(name, a)
	}
	return nil
}

func unexpected(o runtime.Object) error { return fmt.Errorf("unexpected type %T", o) }

// find returns an object as the cache knows it, or as etcd does when the cache does not know it yet.
func find[T runtime.Object](ctx context.Context, s apistore.Stores, resource, namespace, name string) (T, error) {
	o, err := apistore.Get[T](ctx, s, apistore.Core(resource), namespace, name)
	if apierrors.IsNotFound(err) {
		o, err = apistore.GetCurrent[T](ctx, s, apistore.Core(resource), namespace, name)
	}
	return o, err
}

func (r *Restriction) pod(ctx context.Context, name string, a admission.Attributes) error {
	switch a.GetOperation() {
	case admission.Create:
		pod, ok := a.GetObject().(*corev1.Pod)
		if !ok {
			return unexpected(a.GetObject())
		}
		return r.mirrorPod(ctx, name, pod)
	case admission.Delete:
		pod, err := find[*corev1.Pod](ctx, r.stores, "pods", a.GetNamespace(), a.GetName())
		if err != nil {
			return err
		}
		if pod.Spec.NodeName != name {
			return fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", name)
		}
		return nil
	}
	return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.GetOperation(), name)
}

// mirrorPod lets a node create Pods only that mirror its own static ones and open nothing to it.
func (r *Restriction) mirrorPod(ctx context.Context, name string, pod *corev1.Pod) error {
	if _, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]; !ok {
		return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, name)
	}
	if pod.Spec.NodeName != name {
		return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", name)
	}
	if len(pod.OwnerReferences) > 1 {
		return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", name)
	}
	if len(pod.OwnerReferences) == 0 {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", name)
	}
	if err := r.ownedByNode(ctx, name, pod.OwnerReferences[0]); err != nil {
		return err
	}
	if what := referenced(pod); what != "" {
		return fmt.Errorf("node %q can not create pods that reference %s", name, what)
	}
	return nil
}

func (r *Restriction) ownedByNode(ctx context.Context, name string, owner metav1.OwnerReference) error {
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != name:
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", name)
	case owner.Controller == nil || !*owner.Controller:
		return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", name)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", name)
	}
	node, err := find[*corev1.Node](ctx, r.stores, "nodes", "", name)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("error looking up node %s to verify uid: %w", name, err)
	}
	if owner.UID != node.UID {
		return fmt.Errorf("node %s UID mismatch: expected %s got %s", name, owner.UID, node.UID)
	}
	return nil
}

// referenced says which kind of API object a Pod refers to, or "".
func referenced(pod *corev1.Pod) string {
	for _, t := range things(&corev1.Pod{Spec: pod.Spec})[1:] { // the first is the Pod itself
		return t.resource
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "resourceclaims"
	}
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.CSI != nil:
			return "csidrivers (via CSI volumes)"
		case v.Glusterfs != nil:
			return "endpoints (via glusterFS volumes)"
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				switch {
				case s.ServiceAccountToken != nil:
					return "serviceaccounts (via projected volumes)"
				case s.ClusterTrustBundle != nil:
					return "clustertrustbundles"
				case s.PodCertificate != nil:
					return "podcertificates"
				}
			}
		}
	}
	return ""
}

func podStatus(name string, a admission.Attributes) error {
	if a.GetOperation() != admission.Update {
		return fmt.Errorf("unexpected operation %q", a.GetOperation())
	}
	old, ok := a.GetOldObject().(*corev1.Pod)
	if !ok {
		return unexpected(a.GetOldObject())
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return unexpected(a.GetObject())
	}
	switch {
	case old.Spec.NodeName != name:
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", name)
	case !labels.Equals(old.Labels, pod.Labels):
		return fmt.Errorf("node %q cannot update labels through pod status", name)
	case !equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses):
		return fmt.Errorf("node %q cannot update resource claim statues", name)
	}
	return nil
}

func (r *Restriction) eviction(ctx context.Context, name string, a admission.Attributes) error {
	if a.GetOperation() != admission.Create {
		return fmt.Errorf("unexpected operation %s", a.GetOperation())
	}
	eviction, ok := a.GetObject().(*policyv1.Eviction)
	if !ok {
		return unexpected(a.GetObject())
	}
	podName := a.GetName()
	if podName == "" {
		podName = eviction.Name
	}
	if podName == "" {
		return errors.New("could not determine pod from request data")
	}
	pod, err := find[*corev1.Pod](ctx, r.stores, "pods", a.GetNamespace(), podName)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != name {
		return fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", name)
	}
	return nil
}

func ownNode(name string, a admission.Attributes) error {
	if a.GetName() != name {
		return fmt.Errorf("node %q is not allowed to modify node %q", name, a.GetName())
	}
	switch a.GetOperation() {
	case admission.Create:
		node, ok := a.GetObject().(*corev1.Node)
		if !ok {
			return unexpected(a.GetObject())
		}
		if bad := forbiddenLabels(node.Labels, nil); len(bad) > 0 {
			return fmt.Errorf("node %q is not allowed to set the following labels: %s", name, strings.Join(bad, ", "))
		}
	case admission.Update:
		node, ok := a.GetObject().(*corev1.Node)
		if !ok {
			return unexpected(a.GetObject())
		}
		old, ok := a.GetOldObject().(*corev1.Node)
		if !ok {
			return unexpected(a.GetOldObject())
		}
		if !equality.Semantic.DeepEqual(node.Spec.Taints, old.Spec.Taints) {
			return fmt.Errorf("node %q is not allowed to modify taints", name)
		}
		if !equality.Semantic.DeepEqual(node.OwnerReferences, old.OwnerReferences) {
			return fmt.Errorf("node %q is not allowed to modify ownerReferences", name)
		}
		if bad := forbiddenLabels(node.Labels, old.Labels); len(bad) > 0 {
			return fmt.Errorf("is not allowed to modify labels: %s", strings.Join(bad, ", "))
		}
	}
	return nil
}

// forbiddenLabels returns the changed labels that a node must not change: by labels it could draw
// workloads to itself that are not meant for it.
func forbiddenLabels(now, old map[string]string) (bad []string) {
	check := func(key string) {
		namespace, _, ok := strings.Cut(key, "/")
		if !ok {
			return
		}
		in := func(domain string) bool { return namespace == domain || strings.HasSuffix(namespace, "."+domain) }
		if in(corev1.LabelNamespaceNodeRestriction) || (in("kubernetes.io") || in("k8s.io")) && !kubeletapis.IsKubeletLabel(key) {
			bad = append(bad, key)
		}
	}
	for k, v := range now {
		if was, ok := old[k]; !ok || was != v {
			check(k)
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			check(k)
		}
	}
	slices.Sort(bad)
	return bad
}

// token lets a node have tokens for its Pods only, and for audiences that the Pod names.
func (r *Restriction) token(ctx context.Context, name string, a admission.Attributes) error {
	req, ok := a.GetObject().(*authenticationv1.TokenRequest)
	if !ok {
		return unexpected(a.GetObject())
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	pod, err := find[*corev1.Pod](ctx, r.stores, "pods", a.GetNamespace(), ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != pod.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != name {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return r.audience(ctx, pod, req.Spec.Audiences, a)
}

func (r *Restriction) audience(ctx context.Context, pod *corev1.Pod, audiences []string, a admission.Attributes) error {
	if len(audiences) > 1 {
		return errors.New("node may only request 0 or 1 audiences")
	}
	audience := strings.Join(audiences, "")
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
				return nil
			}
		}
	}
	decision, _, err := r.all.Authorize(ctx, authorizer.AttributesRecord{
		User: a.GetUserInfo(), Verb: "request-serviceaccounts-token-audience", Namespace: a.GetNamespace(),
		APIGroup: "", APIVersion: "v1", Resource: audience, Name: a.GetName(), ResourceRequest: true,
	})
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		return fmt.Errorf("error authorizing %s to request tokens for audience %q: %w", a.GetUserInfo().GetName(), audience, err)
	}
	return fmt.Errorf("%s is not authorized to request tokens for audience %q", a.GetUserInfo().GetName(), audience)
}

func claimStatus(name string, a admission.Attributes) error {
	if a.GetSubresource() != "status" {
		return errors.New("may only update PVC status")
	}
	if a.GetOperation() != admission.Update {
		return fmt.Errorf("unexpected operation %q", a.GetOperation())
	}
	old, ok := a.GetOldObject().(*corev1.PersistentVolumeClaim)
	if !ok {
		return unexpected(a.GetOldObject())
	}
	claim, ok := a.GetObject().(*corev1.PersistentVolumeClaim)
	if !ok {
		return unexpected(a.GetObject())
	}
	old, claim = old.DeepCopy(), claim.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{old, claim} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
	}
	if !equality.Semantic.DeepEqual(old, claim) {
		return fmt.Errorf("node %q is not allowed to update fields other than status.quantity and status.conditions", name)
	}
	return nil
}

func ownLease(name string, a admission.Attributes) error {
	if a.GetNamespace() != corev1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	of := a.GetName()
	if a.GetOperation() == admission.Create {
		lease, ok := a.GetObject().(*coordinationv1.Lease)
		if !ok {
			return unexpected(a.GetObject())
		}
		of = lease.Name
	}
	if of != name {
		return errors.New("can only access node lease with the same name as the requesting node")
	}
	return nil
}
