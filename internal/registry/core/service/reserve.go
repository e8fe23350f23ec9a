package service

import (
	"context"
	"errors"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/registry/kit"
)

// reservations allocates addresses and ports to services. The allocation is stored before the service is
// written, so that two API servers never allocate the same. If the write fails, the allocation is released at
// once.
type reservations struct {
	services  *genericregistry.Store
	addresses *addresses
	ports     *nodePortRange

	mu       sync.Mutex
	repaired bool
}

// reserve installs the allocation hooks in the store of services.
func reserve(env kit.Env) error {
	ports, err := newNodePortRange(env)
	if err != nil {
		return err
	}
	r := &reservations{services: env.Store, addresses: &addresses{lookup: env.Lookup, within: pool{env.ServiceRange}}, ports: ports}
	env.Store.BeginCreate = r.beginCreate
	env.Store.BeginUpdate = r.beginUpdate
	env.Store.AfterDelete = r.afterDelete
	return nil
}

// undo releases what one request allocated.
type undo []func(context.Context) error

func (u undo) run(ctx context.Context, s *corev1.Service) {
	// The request may be over or canceled, but what it allocated must be released nevertheless.
	ctx = context.WithoutCancel(ctx)
	var failed []error
	for _, f := range u {
		failed = append(failed, f(ctx))
	}
	if err := errors.Join(failed...); err != nil {
		// The result of the request is decided; the next start of the API server finds what is left over.
		klog.FromContext(ctx).Error(err, "Failed to release what was allocated to the service", "service", klog.KObj(s))
	}
}

func (r *reservations) beginCreate(ctx context.Context, obj runtime.Object, options *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
	s := obj.(*corev1.Service)
	if err := r.repair(ctx); err != nil {
		return nil, err
	}
	dry := dryrun.IsDryRun(options.DryRun)
	pairClusterIPs(s, nil)
	if err := settleFamilies(s, nil); err != nil {
		return nil, err
	}
	var taken undo
	if err := r.takeAddress(ctx, s, dry, &taken); err != nil {
		return nil, err
	}
	give := func(ports *ports, s *corev1.Service) error { return giveNodePorts(ports, s) }
	if err := r.takePorts(ctx, s, dry, &taken, give); err != nil {
		taken.run(ctx, s)
		return nil, err
	}
	return func(ctx context.Context, stored bool) {
		if !stored {
			taken.run(ctx, s)
		}
	}, nil
}

func (r *reservations) beginUpdate(ctx context.Context, obj, oldObj runtime.Object, options *metav1.UpdateOptions) (genericregistry.FinishFunc, error) {
	s, old := obj.(*corev1.Service), oldObj.(*corev1.Service)
	if info, ok := request.RequestInfoFrom(ctx); ok && info.Subresource != "" {
		// A change of the status allocates nothing, whatever its spec says.
		return func(context.Context, bool) {}, nil
	}
	if err := r.repair(ctx); err != nil {
		return nil, err
	}
	dry := dryrun.IsDryRun(options.DryRun)
	keepReserved(s, old)
	pairClusterIPs(s, old)
	if err := settleFamilies(s, old); err != nil {
		return nil, err
	}
	var taken, left undo
	if !needsClusterIP(old) {
		if err := r.takeAddress(ctx, s, dry, &taken); err != nil {
			return nil, err
		}
	}
	give := func(ports *ports, s *corev1.Service) error { return changeNodePorts(ports, s, old) }
	if err := r.takePorts(ctx, s, dry, &taken, give); err != nil {
		taken.run(ctx, s)
		return nil, err
	}
	if !dry {
		left = r.leftBy(s, old)
	}
	return func(ctx context.Context, stored bool) {
		if stored {
			left.run(ctx, s)
		} else {
			taken.run(ctx, s)
		}
	}, nil
}

func (r *reservations) afterDelete(obj runtime.Object, options *metav1.DeleteOptions) {
	if s := obj.(*corev1.Service); !dryrun.IsDryRun(options.DryRun) {
		nothing := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}}
		r.leftBy(nothing, s).run(context.Background(), s)
	}
}

// takeAddress allocates the cluster IP that the service requests, or any.
func (r *reservations) takeAddress(ctx context.Context, s *corev1.Service, dry bool, taken *undo) error {
	if !needsClusterIP(s) || headless(s) || s.Name == "" { // validation rejects a service without a name
		return nil
	}
	asked := ""
	if len(s.Spec.ClusterIPs) > 0 {
		asked = s.Spec.ClusterIPs[0]
	}
	given, err := r.addresses.take(ctx, s, asked, dry)
	if err != nil {
		return err
	}
	s.Spec.ClusterIP, s.Spec.ClusterIPs = given, []string{given}
	if !dry {
		*taken = append(*taken, func(ctx context.Context) error { return r.addresses.release(ctx, given) })
	}
	return nil
}

// takePorts lets give allocate ports for the service. give may run several times, each time on the unchanged
// service.
func (r *reservations) takePorts(ctx context.Context, s *corev1.Service, dry bool, taken *undo, give func(*ports, *corev1.Service) error) error {
	if !onNodePorts(s) {
		return nil
	}
	var with *corev1.Service
	var fresh []int32
	err := r.ports.change(ctx, dry, func(p *ports) error {
		with = s.DeepCopy()
		err := give(p, with)
		fresh = p.fresh
		return err
	})
	if err != nil {
		return err
	}
	s.Spec.Ports, s.Spec.HealthCheckNodePort = with.Spec.Ports, with.Spec.HealthCheckNodePort
	if !dry && len(fresh) > 0 {
		*taken = append(*taken, func(ctx context.Context) error { return r.ports.release(ctx, fresh) })
	}
	return nil
}

// leftBy returns what old had and s no longer has, to be released.
func (r *reservations) leftBy(s, old *corev1.Service) (left undo) {
	if needsClusterIP(old) && !headless(old) && !needsClusterIP(s) {
		for _, ip := range old.Spec.ClusterIPs {
			left = append(left, func(ctx context.Context) error { return r.addresses.release(ctx, ip) })
		}
	}
	ports := nodePorts(old)
	if onNodePorts(s) { // otherwise its ports are cleared later
		ports = ports.Difference(nodePorts(s))
	}
	if needsHealthCheck(old) && !needsHealthCheck(s) {
		ports.Insert(old.Spec.HealthCheckNodePort)
	}
	if ports.Len() > 0 {
		left = append(left, func(ctx context.Context) error { return r.ports.release(ctx, ports.UnsortedList()) })
	}
	return left
}

func invalid(s *corev1.Service, faults ...*field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, faults)
}
