package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/apistore"
)

// podResize refuses resizes that the Pod's node could never grant.
type podResize struct {
	*admission.Handler
	stores apistore.Stores
}

var _ admission.ValidationInterface = &podResize{}

func newPodResize(stores apistore.Stores) *podResize {
	return &podResize{Handler: admission.NewHandler(admission.Update), stores: stores}
}

// Validate implements admission.ValidationInterface.
func (r *podResize) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != podsResource || a.GetSubresource() != "resize" {
		return nil
	}
	p, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected a pod but got a %T", a.GetObject()))
	}
	old, ok := a.GetOldObject().(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected an old pod but got a %T", a.GetOldObject()))
	}
	if p.Spec.NodeName == "" || old.Generation == p.Generation {
		return nil
	}
	node, err := apistore.Get[*corev1.Node](ctx, r.stores, apistore.Core("nodes"), "", p.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return admission.NewForbidden(a, fmt.Errorf("node %q not found", p.Spec.NodeName))
	}
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("failed to get node %q: %w", p.Spec.NodeName, err))
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return refuseResize(a, fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os), "UnsupportedPlatform")
	}
	if err := fits(p, node.Status.Allocatable); err != nil {
		return refuseResize(a, err, "NodeCapacity")
	}
	return nil
}

func fits(p *corev1.Pod, allocatable corev1.ResourceList) error {
	wanted := resource.PodRequests(p, resource.PodResourcesOptions{})
	var short []string
	if cpu := wanted[corev1.ResourceCPU]; cpu.Cmp(*allocatable.Cpu()) > 0 {
		short = append(short, fmt.Sprintf("cpu, requested: %d, allocatable: %d", cpu.MilliValue(), allocatable.Cpu().MilliValue()))
	}
	if memory := wanted[corev1.ResourceMemory]; memory.Cmp(*allocatable.Memory()) > 0 {
		short = append(short, fmt.Sprintf("memory, requested: %d, allocatable: %d", memory.Value(), allocatable.Memory().Value()))
	}
	if len(short) == 0 {
		return nil
	}
	return fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(short, "; "))
}

func refuseResize(a admission.Attributes, err error, reason metav1.CauseType) error {
	err = admission.NewForbidden(a, err)
	if status := (*apierrors.StatusError)(nil); errors.As(err, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: reason})
	}
	return err
}
