package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/apistore"
)

// The finalizers that the controller of volumes in use takes away again.
const (
	volumeProtection = "kubernetes.io/pv-protection"
	claimProtection  = "kubernetes.io/pvc-protection"
)

// storageProtection gives each new volume and claim the finalizer that keeps it while it is in use.
type storageProtection struct{ *admission.Handler }

var _ admission.MutationInterface = storageProtection{}

func newStorageProtection() storageProtection {
	return storageProtection{admission.NewHandler(admission.Create)}
}

// Admit implements admission.MutationInterface.
func (storageProtection) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetSubresource() != "" {
		return nil
	}
	switch a.GetResource().GroupResource() {
	case apistore.Core("persistentvolumes"):
		if v, ok := a.GetObject().(*corev1.PersistentVolume); ok {
			protect(&v.ObjectMeta, volumeProtection)
		}
	case apistore.Core("persistentvolumeclaims"):
		if c, ok := a.GetObject().(*corev1.PersistentVolumeClaim); ok {
			protect(&c.ObjectMeta, claimProtection)
		}
	}
	return nil
}

func protect(m *metav1.ObjectMeta, finalizer string) {
	if !slices.Contains(m.Finalizers, finalizer) {
		m.Finalizers = append(m.Finalizers, finalizer)
	}
}
