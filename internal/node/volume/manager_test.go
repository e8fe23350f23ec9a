package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/node/poddir"
	"podium.dev/podium/internal/paths"
)

const waiting = 10 * time.Second

var ctx = context.Background()

func ptr[T any](v T) *T { return &v }

// newManager makes a Manager in a folder of its own, and takes the Pod's volumes away at the end.
func newManager(t *testing.T, objects ...runtime.Object) (*Manager, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	store := object.NewStore(object.Config{Client: client})
	m := NewManager(Config{
		Paths: paths.For(t.TempDir()), Objects: store, Client: client,
		Allocatable: func() v1.ResourceList { return v1.ResourceList{v1.ResourceMemory: resource.MustParse("64Mi")} },
	})
	run, cancel := context.WithCancel(ctx)
	go store.Run(run)
	done := make(chan struct{})
	go func() { m.Run(run); close(done) }()
	t.Cleanup(func() {
		cancel()
		<-done
		uids, err := m.Pods()
		for _, uid := range uids {
			err = errors.Join(err, m.Remove(ctx, uid))
		}
		if err != nil {
			t.Errorf("volumes are left: %v", err)
		}
	})
	return m, client
}

func podWith(volumes ...v1.Volume) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid", Labels: map[string]string{"a": "b"}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}}, Volumes: volumes, SecurityContext: &v1.PodSecurityContext{}},
	}
	for _, v := range volumes {
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, v1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	return pod
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waiting); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, waiting)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func configMap(name string, data map[string]string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: data}
}

func configVolume(name, configMap string, items ...v1.KeyToPath) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: configMap}, Items: items, DefaultMode: ptr[int32](0o644),
	}}}
}

func TestConfigMapVolumeFollowsItsObject(t *testing.T) {
	m, client := newManager(t, configMap("cm", map[string]string{"a": "1", "gone": "x"}))
	pod := podWith(configVolume("v", "cm"))
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, err := m.HostPath(pod, "v")
	if err != nil || dir != filepath.Join(m.cfg.Paths.Kubelet, "pods/uid/volumes/kubernetes.io~configmap/v") {
		t.Fatalf("%s, %v", dir, err)
	}
	if got := content(t, dir+"/a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	if link, _ := os.Readlink(dir + "/a"); link != "..data/a" {
		t.Errorf("a links to %q", link)
	}
	if got := mode(t, dir+"/a"); got != 0o644 {
		t.Errorf("mode %v", got)
	}
	eventually(t, "watches", func() bool { return watches(client) >= 2 })
	if _, err := client.CoreV1().ConfigMaps("ns").Update(ctx, configMap("cm", map[string]string{"a": "2", "new": "y"}), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "update", func() bool {
		raw, err := os.ReadFile(dir + "/a")
		_, gone := os.Lstat(dir + "/gone")
		return err == nil && string(raw) == "2" && os.IsNotExist(gone)
	})
	if got := content(t, dir+"/new"); got != "y" {
		t.Errorf("new is %q", got)
	}
	eventually(t, "one dated folder", func() bool {
		dated, _ := filepath.Glob(dir + "/..2*")
		return len(dated) == 1
	})
}

func watches(client *fake.Clientset) (n int) {
	for _, a := range client.Actions() {
		if a.GetVerb() == "watch" {
			n++
		}
	}
	return n
}

func TestMissingObjects(t *testing.T) {
	m, _ := newManager(t, configMap("cm", map[string]string{"a": "1"}))
	optional := configVolume("v", "none", v1.KeyToPath{Key: "k", Path: "k"})
	optional.ConfigMap.Optional = ptr(true)
	for _, tc := range []struct {
		name   string
		volume v1.Volume
		want   string
	}{
		{"config map", configVolume("v", "none"), `MountVolume.SetUp failed for volume "v" : configmap "none" not found`},
		{"key", configVolume("v", "cm", v1.KeyToPath{Key: "k", Path: "k"}), `MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: k`},
		{"optional", optional, ""},
		{"secret", v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr[int32](0o644)}}},
			`MountVolume.SetUp failed for volume "v" : secret "s" not found`},
		{"path", configVolume("v", "cm", v1.KeyToPath{Key: "a", Path: "../a"}), `MountVolume.SetUp failed for volume "v" : invalid path: must not contain '..': ../a`},
		{"kind", v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{NFS: &v1.NFSVolumeSource{}}},
			`MountVolume.SetUp failed for volume "v" : no volume plugin matched: volumes of the kind nfs are not supported by this node`},
		{"host path", v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/dev/null", Type: ptr(v1.HostPathDirectory)}}},
			`MountVolume.SetUp failed for volume "v" : hostPath type check failed: /dev/null is not a directory, it's a CharDevice`},
		{"no host path", v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/none", Type: ptr(v1.HostPathFile)}}},
			`MountVolume.SetUp failed for volume "v" : hostPath type check failed, /none is not a file, unable to determine its type: path "/none" does not exist`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := m.SetUp(ctx, podWith(tc.volume)); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestUnusedVolumeIsNotMade(t *testing.T) {
	m, _ := newManager(t)
	pod := podWith(configVolume("v", "none"))
	pod.Spec.Containers[0].VolumeMounts = nil
	if err := m.SetUp(ctx, pod); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	m, _ := newManager(t)
	err := m.SetUp(ctx, podWith(configVolume("v", "x"), configVolume("w", "y")))
	if err == nil || len(Failures(err)) != 2 {
		t.Errorf("got %v", err)
	}
}

func TestDownwardVolumeFollowsThePod(t *testing.T) {
	m, _ := newManager(t)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{
		DefaultMode: ptr[int32](0o644),
		Items: []v1.DownwardAPIVolumeFile{
			{Path: "in/labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}, Mode: ptr[int32](0o400)},
			{Path: "memory", ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}},
		},
	}}})
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.HostPath(pod, "v")
	if got := content(t, dir+"/in/labels"); got != `a="b"` {
		t.Errorf("labels: %s", got)
	}
	if got := mode(t, dir+"/in/labels"); got != 0o400 {
		t.Errorf("mode %v", got)
	}
	if got := content(t, dir+"/memory"); got != "64" {
		t.Errorf("memory: %s", got)
	}
	changed := pod.DeepCopy()
	changed.Labels["a"] = "c"
	m.Update(changed)
	eventually(t, "update", func() bool { return content(t, dir+"/in/labels") == `a="c"` })
}

func TestVolumeOfALaterContainer(t *testing.T) {
	m, _ := newManager(t)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	mounts := pod.Spec.Containers[0].VolumeMounts
	pod.Spec.Containers[0].VolumeMounts = nil
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if _, err := m.HostPath(pod, "v"); err == nil {
		t.Error("a volume that no one uses was made")
	}
	later := pod.DeepCopy()
	later.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e", VolumeMounts: mounts}}}
	later.Generation++
	m.Update(later)
	eventually(t, "the volume", func() bool { _, err := m.HostPath(later, "v"); return err == nil })
}

func TestEmptyDirIsKept(t *testing.T) {
	m, _ := newManager(t)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.HostPath(pod, "v")
	if got := mode(t, dir).Perm(); got != 0o777 {
		t.Errorf("mode %v", got)
	}
	if err := os.WriteFile(dir+"/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir+"/f"); got != "x" {
		t.Errorf("f is %q", got)
	}
	for range 2 {
		if err := m.TearDown(ctx, pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the volume is left: %v", err)
	}
	if len(m.pods) != 0 {
		t.Errorf("%d entries are left", len(m.pods))
	}
}

func TestRemoveTakesTheFolder(t *testing.T) {
	m, _ := newManager(t)
	dir := poddir.Container(m.cfg.Paths, "uid", "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.TearDown(ctx, "uid"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("TearDown took more than volumes: %v", err)
	}
	if err := m.Remove(ctx, "uid"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(poddir.Dir(m.cfg.Paths, "uid")); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if err := m.Remove(ctx, ""); err == nil {
		t.Error("a Pod without UID was removed")
	}
}

func TestPods(t *testing.T) {
	m, _ := newManager(t)
	if got, err := m.Pods(); err != nil || len(got) != 0 {
		t.Errorf("pods without a folder of them: %v, %v", got, err)
	}
	for _, uid := range []types.UID{"one", "two", "..one-0", "..gone-1"} {
		if err := os.MkdirAll(poddir.Volumes(m.cfg.Paths, uid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, end := m.begin("one", true) // its removal is under way, with a folder that it raised
	got, err := m.Pods()
	end()
	if want := []types.UID{"..gone-1", "one", "two"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("pods: %v, %v", got, err)
	}
}

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	pvc := func(name, pv string, phase v1.PersistentVolumeClaimPhase) *v1.PersistentVolumeClaim {
		return &v1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
			Spec:       v1.PersistentVolumeClaimSpec{VolumeName: pv}, Status: v1.PersistentVolumeClaimStatus{Phase: phase},
		}
	}
	pv := func(name, claim string, source v1.PersistentVolumeSource) *v1.PersistentVolume {
		return &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PersistentVolumeSpec{
			PersistentVolumeSource: source, ClaimRef: &v1.ObjectReference{UID: types.UID(claim)},
		}}
	}
	m, _ := newManager(t,
		pvc("good", "pv-good", v1.ClaimBound), pv("pv-good", "good", v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}),
		pvc("local", "pv-local", v1.ClaimBound), pv("pv-local", "local", v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: dir}}),
		pvc("pending", "", v1.ClaimPending),
		pvc("stolen", "pv-good", v1.ClaimBound),
		pvc("nfs", "pv-nfs", v1.ClaimBound), pv("pv-nfs", "nfs", v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{}}),
	)
	for claim, want := range map[string]string{
		"good": "", "local": "",
		"pending": "PVC is not bound",
		"stolen":  "PV pv-good is not bound to it",
		"nfs":     "PersistentVolume pv-nfs is neither a hostPath nor a local volume",
		"absent":  "failed to fetch PVC from API server",
	} {
		pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}})
		err := m.SetUp(ctx, pod)
		if want == "" {
			if got, _ := m.HostPath(pod, "v"); err != nil || got != dir {
				t.Errorf("%s: %s, %v", claim, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", claim, err, want)
		}
	}
}

func TestNestedMounts(t *testing.T) {
	pod := podWith()
	pod.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
		{Name: "v", MountPath: "/etc/v"}, {Name: "w", MountPath: "/etc/v/a/b/"}, {Name: "x", MountPath: "/etc/v/a/b/c"}, {Name: "y", MountPath: "/etc/vv"},
	}
	got := nestedMounts("v", pod)
	if len(got) != 1 || got[0] != "a/b" {
		t.Errorf("got %v", got)
	}
}
