package plugins

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// shelf is a Volumes of a few objects.
type shelf struct {
	claims      map[string]*corev1.PersistentVolumeClaim
	volumes     map[string]*corev1.PersistentVolume
	classes     map[string]*storagev1.StorageClass
	drivers     map[string]*storagev1.CSINode
	known       map[string]*storagev1.CSIDriver
	attachments []*storagev1.VolumeAttachment
}

func (s *shelf) Claim(_, name string) *corev1.PersistentVolumeClaim { return s.claims[name] }
func (s *shelf) Volume(name string) *corev1.PersistentVolume        { return s.volumes[name] }
func (s *shelf) Class(name string) *storagev1.StorageClass          { return s.classes[name] }
func (s *shelf) Drivers(node string) *storagev1.CSINode             { return s.drivers[node] }
func (s *shelf) Driver(name string) *storagev1.CSIDriver            { return s.known[name] }
func (s *shelf) Attachments(node string) (out []*storagev1.VolumeAttachment) {
	for _, a := range s.attachments {
		if a.Spec.NodeName == node {
			out = append(out, a)
		}
	}
	return out
}

// stocked returns a shelf with claims a, b and c on volumes of driver csi. Volume a is in zone x, and claim
// late waits for a node.
func stocked() *shelf {
	s := &shelf{claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}}
	for _, name := range []string{"a", "b", "c"} {
		s.claims[name] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "s"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: name}}
		s.volumes[name] = &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.volumes[name].Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "csi", VolumeHandle: name}
	}
	s.volumes["a"].Labels = map[string]string{corev1.LabelTopologyZone: "x__y"}
	s.volumes["b"].Labels = map[string]string{corev1.LabelFailureDomainBetaZone: "x"}
	wait, now, class := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate, "waits"
	s.classes = map[string]*storagev1.StorageClass{"waits": {Provisioner: "csi", VolumeBindingMode: &wait}, "now": {Provisioner: "csi", VolumeBindingMode: &now}}
	s.claims["late"] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "late", Namespace: "s"}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class}}
	s.claims["old"] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "old", Annotations: map[string]string{corev1.BetaStorageClassAnnotation: "now"}}}
	s.claims["none"] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "none"}}
	count := int32(2)
	s.drivers = map[string]*storagev1.CSINode{"n": {Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "csi", Allocatable: &storagev1.VolumeNodeResources{Count: &count}}}}}}
	return s
}

func claimant(names ...string) *framework.PodInfo {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "s"}}
	for _, name := range names {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
	return framework.NewPodInfo(p)
}

// ask runs a plugin's filter and checks that the plugin explains exactly what it refuses.
func ask(t *testing.T, plugin interface {
	framework.PreFilterer
	framework.Explainer
}, pod *framework.PodInfo, node *framework.NodeInfo) string {
	t.Helper()
	pre := plugin.PreFilter(pod, framework.NewSnapshot())
	switch {
	case pre.Refused != nil:
		return pre.Refused.Message()
	case pre.Skip:
		return "skip"
	}
	status := plugin.Filter(pre.State, pod, node)
	if status == nil {
		return ""
	}
	if d := plugin.Explain(pre.State, pod, node); len(d) != 1 || d[0].Reason != status.Message() || d[0].Text == "" || d[0].Fix == "" {
		t.Errorf("%q is explained by %+v", status.Message(), d)
	}
	return status.Message()
}

func TestVolumeZone(t *testing.T) {
	const no = "node(s) had no available volume zone"
	zone := func(key, value string) map[string]string { return map[string]string{key: value} }
	for name, tc := range map[string]struct {
		claims []string
		labels map[string]string
		want   string
	}{
		"no claims":               {nil, nil, "skip"},
		"a volume without place":  {[]string{"c"}, zone(corev1.LabelTopologyZone, "z"), "skip"},
		"a node without place":    {[]string{"a"}, nil, ""},
		"one of the zones":        {[]string{"a"}, zone(corev1.LabelTopologyZone, "y"), ""},
		"another zone":            {[]string{"a"}, zone(corev1.LabelTopologyZone, "z"), no},
		"the older name of zones": {[]string{"b"}, zone(corev1.LabelTopologyZone, "x"), ""},
		"a region only":           {[]string{"b"}, zone(corev1.LabelTopologyRegion, "r"), no},
		"waits for a node":        {[]string{"late"}, zone(corev1.LabelTopologyZone, "z"), "skip"},
		"not bound":               {[]string{"old"}, nil, "PersistentVolume had no name"},
		"no class":                {[]string{"none"}, nil, "PersistentVolumeClaim had no pv name and storageClass name"},
		"no claim":                {[]string{"nobody"}, nil, `persistentvolumeclaim "nobody" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			node := framework.NewNodeInfo()
			node.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: tc.labels}})
			if got := ask(t, &VolumeZone{stocked()}, claimant(tc.claims...), node); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNodeVolumeLimits(t *testing.T) {
	const full = "node(s) exceed max volume count"
	b := "b"
	attached := &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{Attacher: "csi", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &b}}}
	yes := true
	for name, tc := range map[string]struct {
		claims, there []string
		change        func(*shelf)
		want          string
	}{
		"no claims":                      {nil, []string{"a", "b"}, nil, "skip"},
		"room":                           {[]string{"a"}, []string{"b"}, nil, ""},
		"full":                           {[]string{"a"}, []string{"b", "c"}, nil, full},
		"shared":                         {[]string{"a"}, []string{"a", "b"}, nil, ""},
		"two more":                       {[]string{"a", "b"}, []string{"c"}, nil, full},
		"one that is to be made":         {[]string{"late"}, []string{"b", "c"}, nil, full},
		"attached, its Pod is gone":      {[]string{"a"}, []string{"c"}, func(s *shelf) { s.attachments = append(s.attachments, attached) }, full},
		"attached, and its Pod is there": {[]string{"a"}, []string{"b"}, func(s *shelf) { s.attachments = append(s.attachments, attached) }, ""},
		"no limit":                       {[]string{"a"}, []string{"b", "c"}, func(s *shelf) { s.drivers = nil }, ""},
		"the driver is asked for": {[]string{"a"}, nil, func(s *shelf) {
			s.known = map[string]*storagev1.CSIDriver{"csi": {Spec: storagev1.CSIDriverSpec{PreventPodSchedulingIfMissing: &yes}}}
			s.drivers = nil
		}, "csi CSI driver is not installed on the node"},
		"no claim": {[]string{"nobody"}, nil, nil, "skip"},
	} {
		t.Run(name, func(t *testing.T) {
			s := stocked()
			if tc.change != nil {
				tc.change(s)
			}
			node := framework.NewNodeInfo()
			node.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
			node.AddPod(claimant(tc.there...))
			if got := ask(t, &NodeVolumeLimits{s}, claimant(tc.claims...), node); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
