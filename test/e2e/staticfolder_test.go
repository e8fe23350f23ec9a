package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeEvent waits for an event of the node with the reason, whose message has all the texts.
func (s *space) nodeEvent(reason string, texts ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("the node has an event %s with %q", reason, texts), func() error {
		events, err := s.node.client.CoreV1().Events("default").List(s.ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.kind=Node,involvedObject.name=" + s.node.name() + ",reason=" + reason,
		})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(e.Message, text)
			}
			if !missing {
				return nil
			}
			seen = append(seen, e.Message)
		}
		return fmt.Errorf("it has %q", seen)
	})
}

// notThere fails when the API has a static Pod of the name.
func (s *space) notThere(name string) {
	s.Helper()
	if p, err := s.node.client.CoreV1().Pods(s.ns).Get(s.ctx, name+"-"+s.node.name(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		s.Errorf("%s is there (%v): %s", name, err, describe(p))
	}
}

// objects are a ConfigMap and a Secret of the namespace as documents.
func (s *space) objects(color string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: %[1]s}\ndata: {color: %[2]s}\n---\n"+
		"apiVersion: v1\nkind: Secret\nmetadata: {name: password, namespace: %[1]s}\nstringData: {word: open}\n---\n", s.ns, color)
}

// userOfObjects is a static Pod that uses them in every way and says once what it got.
func (s *space) userOfObjects(name string) string {
	script := "echo $color $WORD $(cat /v/color) $(cat /s/word) > /shared/got; exec sleep 3600"
	text := s.staticManifest(name, script)
	text = strings.Replace(text, "command:", "envFrom: [{configMapRef: {name: settings}}], env: [{name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}], "+
		"volumeMounts: [{name: v, mountPath: /v}, {name: s, mountPath: /s}, {name: shared, mountPath: /shared}], command:", 1)
	return text + "  volumes: [{name: v, configMap: {name: settings}}, {name: s, projected: {sources: [{secret: {name: password}}]}}, {name: shared, hostPath: {path: " + s.TempDir() + "}}]\n"
}

// A file holds a Pod with its ConfigMap and Secret: it uses these, not those of the API, which never sees them.
func TestStaticPodWithItsObjects(t *testing.T) {
	s := newSpace(t)
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"color": "of-the-api"}}
	if _, err := s.node.client.CoreV1().ConfigMaps(s.ns).Create(s.ctx, other, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	pod := s.userOfObjects("user")
	s.drop("all.yaml", s.objects("red")+pod)
	mirror := "user-" + s.node.name()
	first := s.awaitRunning(mirror)
	s.eventually("the container got what the folder has", func() error {
		if out, err := s.try("exec", mirror, "--", "cat", "/shared/got"); err != nil || out != "red open red open\n" {
			return fmt.Errorf("it got %q (%v)", out, err)
		}
		return nil
	})
	if got := first.Annotations["podium.dev/from-the-folder"]; got != "Secret/password,ConfigMap/settings" {
		s.Errorf("the mirror says it takes %q from the folder", got)
	}
	if _, err := s.node.client.CoreV1().Secrets(s.ns).Get(s.ctx, "password", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		s.Errorf("the Secret is in the API (%v)", err)
	}
	api := shellPod("of-the-api", "exec sleep 3600")
	api.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "color", ValueFrom: &corev1.EnvVarSource{
		ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "color"},
	}}}
	s.create(api)
	s.awaitRunning("of-the-api")
	if out := s.kubectl("exec", "of-the-api", "--", "sh", "-c", "echo $color"); out != "of-the-api\n" {
		s.Errorf("a Pod of the API got %q", out)
	}

	s.drop("all.yaml", s.objects("blue")+pod)
	s.eventually("the volume follows the file", func() error {
		if out := s.kubectl("exec", mirror, "--", "cat", "/v/color"); out != "blue" {
			return fmt.Errorf("it has %q", out)
		}
		return nil
	})
	after := s.awaitRunning(mirror)
	if got, want := after.Status.ContainerStatuses[0], first.Status.ContainerStatuses[0]; got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		s.Errorf("an edit of the ConfigMap touched the container: %s", describe(after))
	}
}

// A Pod in one file waits for its objects in another; without them it is refused as Kubernetes does, and told why.
func TestStaticPodRefused(t *testing.T) {
	s := newSpace(t)
	path := s.drop("account.yaml", strings.Replace(s.staticManifest("account", "true"), "spec:\n", "spec:\n  serviceAccountName: default\n", 1))
	s.nodeEvent("InvalidStaticPod", path, "static pods may not reference serviceaccounts")
	path = s.drop("user.yaml", s.userOfObjects("user"))
	s.nodeEvent("InvalidStaticPod", path, "static pods may not reference secrets")
	path = s.drop("two.yaml", s.objects("red")+"kind: Pod\napiVersion: v1\nmetadata: {namespace: "+s.ns+"}\n")
	s.nodeEvent("InvalidStaticPod", path, "document 3 of 3, at line 11", "name is needed for the pod")
	s.notThere("account")
	s.notThere("user")
	s.drop("two.yaml", s.objects("red"))
	s.awaitRunning("user-" + s.node.name())
	s.notThere("account")
}

// What is in the folder and is no manifest is passed over; what is written slowly runs once, when it is whole.
func TestStaticFolder(t *testing.T) {
	s := newSpace(t)
	dir := s.node.paths.Manifests
	runs := s.TempDir()
	counted := func(name string) string {
		text := s.staticManifest(name, "echo x >> /shared/"+name+"; exec sleep 3600")
		text = strings.Replace(text, "command:", "volumeMounts: [{name: shared, mountPath: /shared}], command:", 1)
		return text + "  volumes: [{name: shared, hostPath: {path: " + runs + "}}]\n"
	}
	hidden := filepath.Join(dir, "."+s.ns+".yaml")
	sub := filepath.Join(dir, s.ns+"-sub")
	s.Cleanup(func() { os.Remove(hidden); os.RemoveAll(sub) })
	if err := os.WriteFile(hidden, []byte(counted("hidden")), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sub, "deep.yaml"), []byte(counted("deep")), 0o600); err != nil {
		s.Fatal(err)
	}

	// Written piece by piece: what is there meanwhile parses too, and would run another command.
	slow := filepath.Join(dir, s.ns+"-slow.yaml")
	s.Cleanup(func() { os.Remove(slow) })
	f, err := os.Create(slow)
	if err != nil {
		s.Fatal(err)
	}
	text := counted("slow")
	for _, piece := range []string{text[:40], text[40:200], text[200:]} {
		if _, err := f.WriteString(piece); err != nil {
			s.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	if err := f.Close(); err != nil {
		s.Fatal(err)
	}
	s.awaitRunning("slow-" + s.node.name())

	// Of two files with one Pod the first counts, by its name.
	second := s.drop("b.yaml", s.staticManifest("same", "echo second; exec sleep 3600"))
	s.awaitRunning("same-" + s.node.name())
	first := s.drop("a.yaml", s.staticManifest("same", "echo first; exec sleep 3600"))
	s.nodeEvent("InvalidStaticPod", first, second, "passed over")
	s.eventually("the first one runs", func() error {
		if out, err := s.try("logs", "same-"+s.node.name()); out != "first\n" {
			return fmt.Errorf("the log is %q (%v)", out, err)
		}
		return nil
	})
	if err := os.Remove(first); err != nil {
		s.Fatal(err)
	}
	s.eventually("the second one runs", func() error {
		if out, err := s.try("logs", "same-"+s.node.name()); out != "second\n" {
			return fmt.Errorf("the log is %q (%v)", out, err)
		}
		return nil
	})

	for _, name := range []string{"hidden", "deep"} {
		s.notThere(name)
	}
	for file, want := range map[string]string{"slow": "x\n", "hidden": "", "deep": ""} {
		if b, _ := os.ReadFile(filepath.Join(runs, file)); string(b) != want {
			s.Errorf("%s ran %q, want %q", file, b, want)
		}
	}
}

// The folder is another after an edit of the settings and a restart; it may be missing then, and appear later.
func TestStaticFolderMoves(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.drop("old.yaml", s.staticManifest("old", "exec sleep 3600"))
	s.awaitRunning("old-" + n.name())

	moved := filepath.Join(n.paths.Root, "elsewhere", "manifests")
	s.configure("staticPodPath: .*", "staticPodPath: "+moved)
	n.kill(t)
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	s.awaitGone("old-" + n.name())
	s.node.paths.Manifests = moved
	if err := os.MkdirAll(moved, 0o700); err != nil {
		t.Fatal(err)
	}
	s.drop("new.yaml", s.staticManifest("new", "exec sleep 3600"))
	s.awaitRunning("new-" + n.name())
	if err := os.RemoveAll(filepath.Dir(moved)); err != nil {
		t.Fatal(err)
	}
	s.awaitGone("new-" + n.name())
}
