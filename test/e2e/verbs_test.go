package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What the API tells of itself.
func TestDescribesItself(t *testing.T) {
	s := newSpace(t)
	s.says([]string{"explain", "pod.spec.containers"}, "KIND:       Pod", "FIELD: containers <[]Container>", "DESCRIPTION:", "livenessProbe")
	s.says([]string{"api-resources"}, "pods", "po", "configmaps", "cm", "leases", "clusterroles")
	s.says([]string{"api-versions"}, "v1\n", "apps/v1\n", "rbac.authorization.k8s.io/v1\n")
	s.says([]string{"version"}, "Server Version: v1.37")
	s.says([]string{"get", "--raw", "/readyz?verbose"}, "[+]etcd ok", "readyz check passed")
	s.says([]string{"get", "--raw", "/livez"}, "ok")
	s.says([]string{"get", "--raw", "/metrics"}, "apiserver_request_total")
	s.says([]string{"auth", "whoami"}, "system:masters")
	s.says([]string{"get", "namespaces"}, "default", "kube-system", "kube-public", "kube-node-lease")
	s.says([]string{"get", "nodes", "-o", "wide"}, s.node.name(), "Ready", "v1.37")
	s.says([]string{"describe", "node", s.node.name()}, "Capacity:", "Allocatable:", "KubeletReady", "Non-terminated Pods:")
	s.says([]string{"get", "serviceaccount", "default"}, "default")
	s.says([]string{"get", "configmap", "kube-root-ca.crt"}, "kube-root-ca.crt")
}

// The ways to change an object.
func TestChanges(t *testing.T) {
	s := newSpace(t)
	const manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: one}\n"
	file := filepath.Join(s.TempDir(), "c.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			s.Fatal(err)
		}
	}
	write(manifest)
	s.says([]string{"apply", "--server-side", "-f", file}, "serverside-applied")
	s.says([]string{"get", "configmap", "c", "--show-managed-fields", "-o", "yaml"}, "manager: kubectl", "operation: Apply", "f:a: {}")
	s.says([]string{"patch", "configmap", "c", "--type=merge", "-p", `{"data":{"b":"two"}}`}, "patched")
	s.says([]string{"patch", "configmap", "c", "--type=json", "-p", `[{"op":"replace","path":"/data/a","value":"three"}]`}, "patched")
	s.refused([]string{"apply", "--server-side", "-f", file}, "conflict", ".data.a")
	s.says([]string{"apply", "--server-side", "--force-conflicts", "-f", file}, "serverside-applied")
	if out := s.kubectl("get", "configmap", "c", "-o", "jsonpath={.data.a} {.data.b}"); out != "one two" {
		s.Errorf("after all changes: %q", out)
	}
	s.says([]string{"create", "configmap", "dry", "--from-literal=a=b", "--dry-run=server"}, "created (server dry run)")
	s.refused([]string{"get", "configmap", "dry"}, "not found")

	s.says([]string{"label", "configmap", "c", "tier=one"}, "labeled")
	s.says([]string{"annotate", "configmap", "c", "note=x"}, "annotated")
	s.says([]string{"get", "configmap", "-l", "tier in (one,two)", "-o", "name"}, "configmap/c")
	write(strings.Replace(manifest, "one", "four", 1))
	out, err := s.try("diff", "--server-side", "--force-conflicts", "-f", file)
	if err == nil || !strings.Contains(out, "+  a: four") {
		s.Errorf("diff: %v\n%s", err, out)
	}
	s.says([]string{"replace", "-f", file}, "replaced")
	s.says([]string{"delete", "-f", file}, "deleted")
}

// A client-side apply, a wait, field selectors and columns of Pods.
func TestPodVerbs(t *testing.T) {
	s := newSpace(t)
	const manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec:\n  terminationGracePeriodSeconds: 1\n" +
		"  containers: [{name: c, image: \"" + shellImage + "\", command: [sleep, \"3600\"]}]\n"
	if out, err := s.tryInput(manifest, "apply", "-f", "-"); err != nil || out != "pod/p created\n" {
		s.Fatalf("apply: %v %q", err, out)
	}
	s.says([]string{"wait", "--for=condition=Ready", "pod/p", "--timeout=90s"}, "pod/p condition met")
	pod := s.awaitRunning("p")
	if out, err := s.tryInput(strings.Replace(manifest, "app: p", "app: q", 1), "apply", "-f", "-"); err != nil || out != "pod/p configured\n" {
		s.Errorf("apply again: %v %q", err, out)
	}
	s.says([]string{"get", "pods", "-l", "app=q", "--field-selector=status.phase=Running", "-o", "name"}, "pod/p")
	if out := s.kubectl("get", "pods", "--field-selector=status.podIP="+pod.Status.PodIP, "-o", "name"); out != "pod/p\n" {
		s.Errorf("by address: %q", out)
	}
	s.says([]string{"get", "pods", "-A"}, "NAMESPACE", s.ns)
	s.says([]string{"events", "--for=pod/p"}, "Started")
	trace := s.podium("trace", "pod", "p", "-n", s.ns)
	for _, step := range []string{`AT\s+TOOK\s+STEP\s+ERROR`, `0s\s+\S+s\s+\S+`, `sandbox`, `image c`, `volumes`, `start c`} {
		if !regexp.MustCompile(`(?m)(^|\s)` + step + `\s*($|\n)`).MatchString(trace) {
			s.Errorf("podium trace pod has nothing like %s:\n%s", step, trace)
		}
	}
	if out, err := s.tryPodium("trace", "pod", "none", "-n", s.ns); err == nil || !strings.Contains(out, s.ns+"/none") {
		s.Errorf("a trace of no Pod: %v %q", err, out)
	}
	s.says([]string{"delete", "pods", "--all"}, `pod "p" deleted`)
	s.says([]string{"get", "pods"}, "No resources found")
}

// An ephemeral container in a running Pod, a copy of it with another program, and a Pod to look at the node.
func TestDebug(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("app", "exec sleep 4567"))
	s.awaitRunning("app")
	s.kubectl("debug", "app", "--image="+shellImage, "--target=c0", "-c", "look", "--", "sh", "-c", "ps; echo done looking")
	s.await("app", "debugged", func(p *corev1.Pod) bool {
		return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Terminated != nil
	})
	s.says([]string{"logs", "app", "-c", "look"}, "sleep 4567", "done looking")
	s.kubectl("debug", "app", "--copy-to=copy", "--container=c0", "--", "sh", "-c", "echo from the copy; exec sleep 3600")
	s.awaitRunning("copy")
	s.says([]string{"logs", "copy"}, "from the copy")
	out := s.kubectl("debug", "node/"+s.node.name(), "--image="+shellImage, "--", "sh", "-c", "ls /host/proc/1; exec sleep 3600")
	name := regexp.MustCompile(`node-debugger-\S+`).FindString(out)
	if name == "" {
		s.Fatalf("debug node printed %q", out)
	}
	got := s.awaitRunning(name)
	if !got.Spec.HostNetwork || !got.Spec.HostPID {
		s.Errorf("the node's debugger is not in the host's namespaces: %+v", got.Spec)
	}
	s.kubectl("delete", "pod", name, "--grace-period=1")
}
