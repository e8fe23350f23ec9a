package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/test/registry"
)

// settingsHead begins every file of settings.
const settingsHead = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

// configuredNode is ownNode with settings that are there before its first start. Only memory counts as short, unless
// they say otherwise: how full the machine's disk is, is not what is tested.
func configuredNode(t *testing.T, settings string) *node {
	t.Helper()
	if !strings.Contains(settings, "evictionHard") {
		settings += "evictionHard: {memory.available: 100Mi}\n"
	}
	root := filepath.Join(t.TempDir(), "node")
	file := paths.For(root).KubeletConfig
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(settingsHead+settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return ownNodeAt(t, root)
}

// configure edits the node's settings: a line that matches is made another, or where none does it is added.
func (s *space) configure(line, becomes string) {
	s.Helper()
	path := s.node.paths.KubeletConfig
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	re := regexp.MustCompile("(?m)^" + line + "$")
	if re.Match(b) {
		b = re.ReplaceAll(b, []byte(becomes))
	} else {
		b = append(b, becomes+"\n"...)
	}
	part := path + ".part"
	if err := os.WriteFile(part, b, 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(part, path); err != nil {
		s.Fatal(err)
	}
}

// restart kills the daemon and starts it again.
func (s *space) restart() {
	s.Helper()
	s.node.kill(s.T)
	if err := s.node.up(); err != nil {
		s.Fatal(err)
	}
}

func (s *space) theNode() *corev1.Node {
	s.Helper()
	n, err := s.node.client.CoreV1().Nodes().Get(s.ctx, s.node.name(), metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// An edit that cannot be is refused with line and field and changes nothing of the running node; the next start
// refuses it too, before it touches anything.
func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(shellPod("steady", "exec sleep 3600"))
	before := s.awaitRunning("steady")

	s.configure("maxPods: .*", "maxPods: 5\nmaxPots: 5")
	s.nodeEvent("InvalidNodeConfig", n.paths.KubeletConfig+":", ": maxPots: there is no such setting")
	s.configure("maxPots: .*", "staticPodURL: nowhere")
	s.nodeEvent("InvalidNodeConfig", `: staticPodURL: "nowhere" must be an http or https URL`)
	if got := s.theNode().Status.Capacity.Pods().Value(); got != 110 {
		s.Errorf("the running node takes %d Pods: a half of the file was taken", got)
	}
	n.kill(t)
	if err := n.up(); err == nil || !strings.Contains(err.Error(), `config.yaml:`) || !strings.Contains(err.Error(), `: staticPodURL: "nowhere" must be an http or https URL`) {
		s.Fatalf("up with refused settings: %v", err)
	}
	s.configure("staticPodURL: .*", "# mended")
	if err := n.up(); err != nil {
		s.Fatal(err)
	}
	after := s.awaitRunning("steady")
	if got, want := after.Status.ContainerStatuses[0], before.Status.ContainerStatuses[0]; got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		s.Errorf("the Pod was touched: %s", describe(after))
	}
	s.eventually("the mended settings are in force", func() error {
		if got := s.theNode().Status.Capacity.Pods().Value(); got != 5 {
			return fmt.Errorf("the node takes %d Pods", got)
		}
		return nil
	})
	s.configure("maxPods: .*", "maxPods: 6")
	s.nodeEvent("NodeConfigChanged", n.paths.KubeletConfig, "the next start takes it")
}

// What the settings say of the node itself, and of its Pods, is so.
func TestSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	resolver, logs, manifests := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "logs"), filepath.Join(dir, "manifests")
	if err := os.WriteFile(resolver, []byte("nameserver 192.0.2.99\nsearch of-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	var manifest atomic.Pointer[string] // of the URL; the namespace is not known yet
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := manifest.Load()
		if r.Header.Get("X-Who") != "the-node" || text == nil {
			http.Error(w, "not for you, or not yet", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, *text)
	}))
	t.Cleanup(web.Close)
	n := configuredNode(t, fmt.Sprintf(`
maxPods: 20
podPidsLimit: 64
containerLogMaxSize: 20Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
serializeImagePulls: true
kubeReserved: {cpu: 100m, memory: 64Mi, ephemeral-storage: 32Mi}
systemReserved: {cpu: 50m, memory: 32Mi}
evictionHard: {memory.available: 16Mi}
clusterDNS: [192.0.2.53]
clusterDomain: podium.test
resolvConf: %s
seccompDefault: true
registerWithTaints: [{key: podium.test/mine, value: "yes", effect: NoSchedule}]
nodeStatusUpdateFrequency: 1s
nodeLeaseDurationSeconds: 4
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
podLogsDir: %s
failSwapOn: false
port: %d
readOnlyPort: 0
staticPodPath: %s
fileCheckFrequency: 1s
staticPodURL: %s
staticPodURLHeader: {X-Who: [the-node]}
httpCheckFrequency: 1s
`, resolver, logs, port, manifests, web.URL))
	s := newSpaceOn(t, n)
	ours := corev1.Toleration{Key: "podium.test/mine", Operator: corev1.TolerationOpExists}
	tolerant := func(name, script string) *corev1.Pod {
		p := shellPod(name, script)
		p.Spec.Tolerations = append(p.Spec.Tolerations, ours)
		return p
	}
	t.Run("node", func(t *testing.T) {
		node := s.theNode()
		got, c := node.Status.Allocatable, node.Status.Capacity
		if c.Pods().Value() != 20 || got.Pods().Value() != 20 {
			t.Errorf("it takes %v of %v Pods", got.Pods(), c.Pods())
		}
		for name, reserved := range map[corev1.ResourceName]string{corev1.ResourceCPU: "150m", corev1.ResourceMemory: "112Mi", corev1.ResourceEphemeralStorage: "32Mi"} {
			want := c[name].DeepCopy()
			want.Sub(resource.MustParse(reserved))
			if q := got[name]; q.Cmp(want) != 0 {
				t.Errorf("%s: %v is allocatable, want %v", name, q.String(), want.String())
			}
		}
		if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "podium.test/mine" && t.Value == "yes" }) {
			t.Errorf("it has the taints %v", node.Spec.Taints)
		}
		if got := node.Status.DaemonEndpoints.KubeletEndpoint.Port; got != int32(port) {
			t.Errorf("its server has port %d, want %d", got, port)
		}
		first := node.Status.Conditions[0].LastHeartbeatTime
		s.eventually("the status is written every second", func() error {
			if now := s.theNode().Status.Conditions[0].LastHeartbeatTime; !first.Before(&now) {
				return fmt.Errorf("last at %v", now)
			}
			return nil
		})
		leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
		lease, err := leases.Get(s.ctx, n.name(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *lease.Spec.LeaseDurationSeconds != 4 {
			t.Errorf("the lease is for %d s", *lease.Spec.LeaseDurationSeconds)
		}
		began := time.Now()
		s.eventually("the lease is renewed", func() error {
			now, err := leases.Get(s.ctx, n.name(), metav1.GetOptions{})
			if err == nil && !now.Spec.RenewTime.Time.After(lease.Spec.RenewTime.Time) {
				err = fmt.Errorf("last at %v", now.Spec.RenewTime)
			}
			return err
		})
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the lease of 4 s was renewed after %v", took)
		}
	})
	t.Run("pods", func(t *testing.T) {
		// The tasks that are there at most: the shell, pause and 60 more do not fit 64 with those of the limit's own.
		s.create(tolerant("cluster", "cat /etc/resolv.conf; grep Seccomp: /proc/self/status; exec sleep 3600"))
		plain := tolerant("plain", "cat /etc/resolv.conf; i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; echo unbounded; exec sleep 3600")
		plain.Spec.DNSPolicy, plain.Spec.RestartPolicy = corev1.DNSDefault, corev1.RestartPolicyNever
		s.create(plain)
		crash := s.create(tolerant("crash", "exit 3"))
		chatty := s.create(tolerant("chatty", "i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo line $i 0123456789012345678901234567890123456789012345678901234567890123; sleep 0.005; done; echo over; exec sleep 3600"))
		s.awaitRunning("chatty")
		follower := s.start("logs", "-f", "chatty")
		s.awaitRunning("cluster")
		if out := s.kubectl("logs", "cluster"); !strings.Contains(out, "nameserver 192.0.2.53") || !strings.Contains(out, s.ns+".svc.podium.test") || !strings.Contains(out, "of-the-file") || !strings.Contains(out, "Seccomp:\t2") {
			t.Errorf("a Pod of the cluster's DNS has\n%s", out)
		}
		s.awaitPhase("plain", corev1.PodFailed)
		if out := s.kubectl("logs", "plain"); !strings.Contains(out, "nameserver 192.0.2.99") || !strings.Contains(strings.ToLower(out), "fork") || strings.Contains(out, "unbounded") {
			t.Errorf("a Pod of the node's DNS, with 100 processes of 64, says\n%s", out)
		}
		began := time.Now()
		s.await("crash", "restarted five times", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 5
		})
		if took := time.Since(began); took > time.Minute {
			t.Errorf("five restarts took %v", took)
		}
		folder := func(p *corev1.Pod) string {
			return filepath.Join(logs, fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID), "c0")
		}
		for n := 1; n <= 1500; n++ {
			if line, _ := follower.next(); !strings.HasPrefix(line, fmt.Sprintf("line %d ", n)) {
				t.Fatalf("who follows a log while it is put aside reads %q instead of line %d", line, n)
			}
		}
		follower.stop()
		s.eventually("a log is put aside, and no more files are kept than may be", func() error {
			files, err := os.ReadDir(folder(chatty))
			if err == nil && len(files) != 3 {
				err = fmt.Errorf("there are %d files", len(files))
			}
			return err
		})
		if _, err := os.Stat(folder(crash)); err != nil {
			t.Error(err)
		}
	})
	t.Run("pulls", func(t *testing.T) {
		server := registry.Start(t)
		server.Gate = make(chan struct{})
		var names []string
		for _, name := range []string{"one", "two"} {
			p := imagePod(name, server.Put(name, "1", smallImage(t, s.Name()+name)))
			p.Spec.Tolerations = append(p.Spec.Tolerations, ours)
			names = append(names, name)
			s.create(p)
		}
		asked := func() (n int) {
			for _, name := range names {
				if len(server.Requests("/"+name+"/")) > 0 {
					n++
				}
			}
			return n
		}
		s.eventually("a pull is under way", func() error {
			if asked() == 0 {
				return fmt.Errorf("no image was asked for")
			}
			return nil
		})
		<-time.After(500 * time.Millisecond)
		if asked() != 1 {
			t.Error("two images are pulled at once")
		}
		close(server.Gate)
		s.eventually("the other one is pulled too", func() error {
			if asked() != 2 {
				return fmt.Errorf("it was not asked for")
			}
			return nil
		})
	})
	t.Run("sources", func(t *testing.T) {
		text := s.staticManifest("url", "exec sleep 3600")
		manifest.Store(&text)
		s.node.paths.Manifests = manifests
		if err := os.MkdirAll(manifests, 0o700); err != nil {
			t.Fatal(err)
		}
		s.drop("file.yaml", s.staticManifest("file", "exec sleep 3600"))
		s.awaitRunning("file-" + n.name())
		if p := s.awaitRunning("url-" + n.name()); p.Annotations["kubernetes.io/config.source"] != "http" {
			t.Errorf("annotations: %v", p.Annotations)
		}
	})
	t.Run("maxPods", func(t *testing.T) {
		s.configure("maxPods: .*", "maxPods: 1")
		s.restart()
		bound := shellPod("bound", "exec sleep 3600")
		bound.Spec.NodeName = n.name()
		bound.Spec.Tolerations = []corev1.Toleration{ours}
		s.create(bound)
		if p := s.awaitPhase("bound", corev1.PodFailed); p.Status.Reason != "OutOfpods" {
			t.Error(describe(p))
		}
		// By now the scheduler, which hears of the node and of Pods by two watches, has heard of the node too.
		s.create(tolerant("waits", "exec sleep 3600"))
		s.eventuallyEvent("waits", "FailedScheduling", "Too many pods")
	})
}
