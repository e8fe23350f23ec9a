package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claim returns the place on this node of what a claim is bound to: a hostPath or local volume. The
// claim and its volume are read each time, for a Pod asks once.
func (m *Manager) claim(ctx context.Context, pod *v1.Pod, name string) (string, error) {
	if m.cfg.Client == nil {
		return "", fmt.Errorf("error processing PVC %s/%s: no API server is configured", pod.Namespace, name)
	}
	pvc, err := m.cfg.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: failed to fetch PVC from API server: %w", pod.Namespace, name, err)
	}
	if pvc.DeletionTimestamp != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: PVC is being deleted", pod.Namespace, name)
	}
	if pvc.Status.Phase != v1.ClaimBound || pvc.Spec.VolumeName == "" {
		return "", fmt.Errorf("error processing PVC %s/%s: PVC is not bound", pod.Namespace, name)
	}
	pv, err := m.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: failed to get PV %s from API server: %w", pod.Namespace, name, pvc.Spec.VolumeName, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID {
		return "", fmt.Errorf("error processing PVC %s/%s: PV %s is not bound to it", pod.Namespace, name, pv.Name)
	}
	return place(pod, pv)
}

// place returns the path of a PersistentVolume, checked and given to the Pod's group.
func place(pod *v1.Pod, pv *v1.PersistentVolume) (string, error) {
	switch {
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, checkHostPath(pv.Spec.HostPath.Path, pv.Spec.HostPath.Type)
	case pv.Spec.Local == nil:
		return "", fmt.Errorf("no volume plugin matched: PersistentVolume %s is neither a hostPath nor a local volume, and no other kind is supported by this node", pv.Name)
	}
	path := pv.Spec.Local.Path
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("path %q does not exist: %w", path, errors.Unwrap(err))
	}
	block := pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == v1.PersistentVolumeBlock
	switch {
	case block && hostType(info.Mode()) != v1.HostPathBlockDev:
		return "", fmt.Errorf("path %q is not a block device, as volumeMode Block needs it", path)
	case block:
		return path, nil
	case !info.IsDir():
		return "", fmt.Errorf("path %q is not a folder: local volumes with a file system to be mounted are not supported by this node", path)
	}
	o := ownerOf(pod, false)
	if psc := pod.Spec.SecurityContext; psc != nil && psc.FSGroupChangePolicy != nil &&
		*psc.FSGroupChangePolicy == v1.FSGroupChangeOnRootMismatch && o.owns(path) {
		return path, nil
	}
	return path, o.takeAll(path)
}
