package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// staticManifest is a static Pod in the namespace whose container runs a script.
func (s *space) staticManifest(name, script string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n"+
		"  containers:\n  - {name: c0, image: %q, command: [sh, -c, %q]}\n", name, s.ns, shellImage, script)
}

// drop puts a file into the node's folder of static Pods, in one step; it is taken out with the test.
func (s *space) drop(name, text string) (path string) {
	s.Helper()
	path = filepath.Join(s.node.paths.Manifests, s.ns+"-"+name)
	part := filepath.Join(s.node.paths.Root, s.ns+name+".part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(part, path); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.Remove(path) })
	return path
}

// A manifest in the node's folder runs; an edit replaces it, deleting its mirror does not touch it, and it
// ends when the file is gone.
func TestStaticPod(t *testing.T) {
	s := newSpace(t)
	mirror := "steady-" + s.node.name()
	path := s.drop("steady.yaml", s.staticManifest("steady", "echo one; exec sleep 3600"))
	first := s.awaitRunning(mirror)
	if first.Annotations[corev1.MirrorPodAnnotationKey] == "" || first.Annotations["kubernetes.io/config.source"] != "file" {
		s.Errorf("annotations: %v", first.Annotations)
	}
	if owners := first.OwnerReferences; len(owners) != 1 || owners[0].Kind != "Node" || owners[0].Name != s.node.name() {
		s.Errorf("owners: %v", owners)
	}
	if out := s.kubectl("exec", mirror, "--", "echo", "inside"); out != "inside\n" {
		s.Errorf("exec: %q", out)
	}

	s.kubectl("delete", "pod", mirror, "--wait=false")
	again := s.await(mirror, "mirrored anew", func(p *corev1.Pod) bool { return p.UID != first.UID && isReady(p) })
	if got, want := again.Status.ContainerStatuses[0], first.Status.ContainerStatuses[0]; got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		s.Errorf("deleting the mirror touched the container: %s", describe(again))
	}

	s.drop("steady.yaml", s.staticManifest("steady", "echo two; exec sleep 3600"))
	s.await(mirror, "replaced", func(p *corev1.Pod) bool {
		return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != first.Status.ContainerStatuses[0].ContainerID
	})
	s.eventually("the new one runs", func() error {
		if out := s.kubectl("logs", mirror); out != "two\n" {
			return fmt.Errorf("the log is %q", out)
		}
		return nil
	})
	if err := os.Remove(path); err != nil {
		s.Fatal(err)
	}
	s.awaitGone(mirror)
}

// A broken file, a hidden one and an editor's do not keep the good ones from running.
func TestStaticPodBesideBadFiles(t *testing.T) {
	s := newSpace(t)
	s.drop("broken.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {")
	s.drop("secret.yaml", strings.Replace(s.staticManifest("secret", "true"), "spec:\n", "spec:\n  volumes: [{name: v, secret: {secretName: x}}]\n", 1))
	s.drop("edited.yaml~", s.staticManifest("edited", "exec sleep 3600"))
	s.drop("good.yaml", s.staticManifest("good", "exec sleep 3600"))
	s.awaitRunning("good-" + s.node.name())
	for _, name := range []string{"edited", "secret"} {
		if _, err := s.node.client.CoreV1().Pods(s.ns).Get(s.ctx, name+"-"+s.node.name(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			s.Errorf("%s was run (%v)", name, err)
		}
	}
	if err := os.Remove(filepath.Join(s.node.paths.Manifests, s.ns+"-good.yaml")); err != nil {
		s.Fatal(err)
	}
	s.awaitGone("good-" + s.node.name())
}

// Without an API that can keep anything, here because its external etcd is away, static Pods run all the same,
// with the objects of their folder, and show when it is back.
func TestStaticPodWithoutAPI(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	n := ownNodeWith(t, "--etcd-servers", etcd.url)
	s := newSpaceOn(t, n)
	s.create(shellPod("before", "exec sleep 3600"))
	before := s.awaitRunning("before")
	if _, err := os.Stat(n.paths.Etcd); !errors.Is(err, os.ErrNotExist) {
		s.Errorf("there is an embedded etcd beside the external one (%v)", err)
	}
	etcd.stop()
	record := s.TempDir()
	manifest := s.objects("red") + s.staticManifest("alone", "echo $color >> /record/runs; exec sleep 3600")
	manifest = strings.Replace(manifest, "command:", "envFrom: [{configMapRef: {name: settings}}], volumeMounts: [{name: r, mountPath: /record}], command:", 1) +
		"  volumes: [{name: r, hostPath: {path: " + record + "}}]\n"
	path := s.drop("alone.yaml", manifest)
	s.readText(filepath.Join(record, "runs"))
	etcd.start()
	mirror := s.awaitRunning("alone-" + n.name())
	after := s.awaitRunning("before")
	if got, want := after.Status.ContainerStatuses[0], before.Status.ContainerStatuses[0]; got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		s.Errorf("the Pod of the API was touched: %s", describe(after))
	}
	if got := s.readText(filepath.Join(record, "runs")); got != "red\n" || mirror.Status.ContainerStatuses[0].RestartCount != 0 {
		s.Errorf("the static Pod ran %q: %s", got, describe(mirror))
	}
	if err := os.Remove(path); err != nil {
		s.Fatal(err)
	}
	s.awaitGone("alone-" + n.name())
}
