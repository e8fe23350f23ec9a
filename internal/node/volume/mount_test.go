package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"podium.dev/podium/internal/node/poddir"
)

func isMounted(t *testing.T, path string) bool {
	t.Helper()
	mounted, err := isMountRoot(unix.AT_FDCWD, path)
	if err != nil {
		t.Fatal(err)
	}
	return mounted
}

func TestSecretStaysInMemory(t *testing.T) {
	needRoot(t)
	m, _ := newManager(t, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"k": []byte("x")}})
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr[int32](0o400)}}})
	pod.Spec.SecurityContext.FSGroup = ptr[int64](1234)
	for range 2 {
		if err := m.SetUp(ctx, pod); err != nil {
			t.Fatal(err)
		}
	}
	dir, _ := m.HostPath(pod, "v")
	if !isMounted(t, dir) {
		t.Error("the secret is on disk")
	}
	if got := mode(t, dir+"/k"); got != 0o440 {
		t.Errorf("mode %v", got)
	}
	info, _ := os.Stat(dir + "/k")
	if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 1234 {
		t.Errorf("group %d", gid)
	}
	if err := m.TearDown(ctx, pod.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

func TestProjectedToken(t *testing.T) {
	needRoot(t)
	m, client := newManager(t, configMap("kube-root-ca.crt", map[string]string{"ca.crt": "CA"}))
	tokens := 0
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		tokens++
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		r.Status = authenticationv1.TokenRequestStatus{Token: fmt.Sprint("token-", tokens), ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
		return true, r, nil
	})
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{
		DefaultMode: ptr[int32](0o644),
		Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr[int64](3607)}},
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []v1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
		},
	}}})
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.HostPath(pod, "v")
	for file, want := range map[string]string{"token": "token-1", "ca.crt": "CA", "namespace": "ns"} {
		if got := content(t, filepath.Join(dir, file)); got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
	if got := mode(t, dir+"/token"); got != 0o644 {
		t.Errorf("mode %v", got)
	}
	// A Pod of one user: the token is that user's alone.
	pod = pod.DeepCopy()
	pod.UID, pod.Spec.SecurityContext.RunAsUser = "other", ptr[int64](1000)
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, _ = m.HostPath(pod, "v")
	info, _ := os.Stat(dir + "/token")
	if info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != 1000 {
		t.Errorf("mode %v of user %d", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
}

func TestMemoryEmptyDirIsBounded(t *testing.T) {
	needRoot(t)
	m, _ := newManager(t)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{
		Medium: v1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi")),
	}}})
	pod.Spec.SecurityContext.FSGroup = ptr[int64](1234)
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.HostPath(pod, "v")
	if got := mode(t, dir); got.Perm() != 0o777 || got&os.ModeSetgid == 0 || got&os.ModeSticky == 0 {
		t.Errorf("mode %v", got)
	}
	if err := os.WriteFile(dir+"/big", make([]byte, 2<<20), 0o600); err == nil {
		t.Error("2 MiB went into 1 MiB")
	}
}

func TestSubPath(t *testing.T) {
	needRoot(t)
	m, _ := newManager(t, configMap("cm", map[string]string{"f": "1"}))
	pod := podWith(configVolume("cm", "cm"), v1.Volume{Name: "e", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}}})
	if err := m.SetUp(ctx, pod); err != nil {
		t.Fatal(err)
	}
	file, err := m.SubPath(pod, "cm", "c", 0, "f")
	if err != nil || content(t, file) != "1" {
		t.Fatalf("%s, %v", file, err)
	}
	if want := poddir.SubPath(m.cfg.Paths, "uid", "cm", "c", 0); file != want {
		t.Errorf("at %s", file)
	}
	dir, _ := m.HostPath(pod, "e")
	made, err := m.SubPath(pod, "e", "c", 1, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.SubPath(pod, "e", "c", 1, "a/b"); err != nil || again != made {
		t.Fatalf("%s, %v", again, err)
	}
	if got, root := mode(t, dir+"/a/b"), mode(t, dir); got != root || got.Perm() != 0o777 || got&os.ModeSticky == 0 {
		t.Errorf("mode %v, that of the volume is %v", got, root)
	}
	if err := os.WriteFile(made+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/a/b/x"); err != nil {
		t.Error(err)
	}
	// A link out of the volume leads to a folder in it.
	if err := os.Symlink("/etc", dir+"/out"); err != nil {
		t.Fatal(err)
	}
	out, err := m.SubPath(pod, "e", "c", 2, "out/hostname")
	if err == nil {
		if _, err := os.Stat(out + "/.."); err == nil && strings.Contains(content(t, "/proc/self/mountinfo"), "/etc/hostname "+out) {
			t.Error("a link led out of the volume")
		}
	}
	if err := m.TearDown(ctx, pod.UID); err != nil {
		t.Fatal(err)
	}
	if got := content(t, "/proc/self/mountinfo"); strings.Contains(got, m.cfg.Paths.Kubelet) {
		t.Error("a mount is left")
	}
}

// What is mounted below a Pod's folder is another's: removal must unmount it, not empty it.
func TestRemovalSparesWhatIsMounted(t *testing.T) {
	needRoot(t)
	precious := t.TempDir()
	if err := os.WriteFile(precious+"/data", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	for i, source := range []string{precious, precious, precious + "/data"} {
		at := fmt.Sprintf("%s/a/%d", tree, i)
		if err := makePlace(at, i < 2); err != nil {
			t.Fatal(err)
		}
		for range 2 { // one above the other
			if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(precious, tree+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	if got := content(t, precious+"/data"); got != "x" {
		t.Error("what was mounted is gone")
	}
}

func TestRemovalOfDeepFolders(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	deep := tree
	for range 350 {
		deep += "/d"
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(tree); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(filepath.Dir(tree))
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
