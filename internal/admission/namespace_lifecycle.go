package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apistore"
)

// deletedFor is how long a namespace that was deleted is looked up in etcd, and not in a cache that may not
// know of it yet.
const deletedFor = 30 * time.Second

// immortal are the namespaces that cannot be deleted.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// namespaceLifecycle lets nothing be made in a namespace that is not there or is ending, and keeps the
// immortal namespaces.
type namespaceLifecycle struct {
	*admission.Handler
	stores apistore.Stores
	clock  clock.PassiveClock

	mu      sync.Mutex
	deleted map[string]time.Time
}

var _ admission.MutationInterface = &namespaceLifecycle{}

func newNamespaceLifecycle(stores apistore.Stores) *namespaceLifecycle {
	return &namespaceLifecycle{
		Handler: admission.NewHandler(admission.Create, admission.Update, admission.Delete),
		stores:  stores, clock: clock.RealClock{}, deleted: map[string]time.Time{},
	}
}

// Admit implements admission.MutationInterface; it changes nothing.
func (l *namespaceLifecycle) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetKind().GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() {
		if a.GetOperation() != admission.Delete {
			return nil
		}
		if slices.Contains(immortal, a.GetName()) {
			return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), errors.New("this namespace may not be deleted"))
		}
		l.noteDeleted(a.GetName())
		return nil
	}
	if a.GetNamespace() == "" || a.GetOperation() != admission.Create {
		return nil
	}
	// Whether a namespace is there is not told to those who ask what they may do in it.
	if r := a.GetResource(); r.Group == authorizationv1.GroupName && r.Resource == "localsubjectaccessreviews" {
		return nil
	}
	namespace, err := l.namespace(ctx, a.GetNamespace())
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return apierrors.NewInternalError(err)
	case namespace.Status.Phase != corev1.NamespaceTerminating:
		return nil
	}
	err = admission.NewForbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	if status := (*apierrors.StatusError)(nil); errors.As(err, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
			Field:   "metadata.namespace",
		})
	}
	return err
}

func (l *namespaceLifecycle) namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	if l.wasDeleted(name) {
		return apistore.GetCurrent[*corev1.Namespace](ctx, l.stores, apistore.Core("namespaces"), "", name)
	}
	return find[*corev1.Namespace](ctx, l.stores, apistore.Core("namespaces"), "", name)
}

func (l *namespaceLifecycle) noteDeleted(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	for n, t := range l.deleted {
		if now.Sub(t) > deletedFor {
			delete(l.deleted, n)
		}
	}
	l.deleted[name] = now
}

func (l *namespaceLifecycle) wasDeleted(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.deleted[name]
	return ok && l.clock.Since(t) <= deletedFor
}
