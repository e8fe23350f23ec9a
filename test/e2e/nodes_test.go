package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/store"
)

// etcd is one of its own, outside of any daemon, whose data outlives its stops.
type etcd struct {
	t     *testing.T
	dir   string
	url   string
	store *store.Store
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	dir, err := os.MkdirTemp("", "podium-e2e-etcd-") // a short path, for its socket
	if err != nil {
		t.Fatal(err)
	}
	e := &etcd{t: t, dir: dir, url: "unix://" + filepath.Join(dir, "sock")}
	t.Cleanup(func() { e.stop(); os.RemoveAll(dir) })
	e.start()
	return e
}

func (e *etcd) start() {
	e.t.Helper()
	var err error
	e.store, err = store.Start(context.Background(), store.Config{Dir: filepath.Join(e.dir, "data"), Socket: filepath.Join(e.dir, "sock")})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *etcd) stop() {
	if e.store == nil {
		return
	}
	if err := e.store.Close(); err != nil {
		e.t.Error(err)
	}
	e.store = nil
}

// Two nodes of different roots on one machine: each has its own Pods and addresses, and the end of one does
// not touch the other.
func TestTwoNodesSideBySide(t *testing.T) {
	here := newSpace(t)
	here.kubectl("run", "web", "--image="+webImage)
	mine := here.awaitRunning("web")
	var theirIP string
	t.Run("second", func(t *testing.T) {
		there := newSpaceOn(t, ownNode(t))
		there.kubectl("run", "web", "--image="+webImage)
		theirs := there.awaitRunning("web")
		theirIP = theirs.Status.PodIP
		if out := there.kubectl("get", "nodes", "-o", "name"); out != "node/"+there.node.name()+"\n" {
			t.Errorf("the second has the nodes %q", out)
		}
		for _, url := range []string{mine.Status.PodIP, theirIP} {
			if body := get(there, "http://"+url); !strings.Contains(body, "<html") {
				t.Errorf("%s: %q", url, body)
			}
		}
	})
	if theirIP == mine.Status.PodIP {
		t.Errorf("both have the address %s", theirIP)
	}
	if body := get(here, "http://"+mine.Status.PodIP); !strings.Contains(body, "<html") {
		t.Errorf("after the end of the second node: %q", body)
	}
}

const cniConfig = `{
  "cniVersion": "1.0.0", "name": "e2e",
  "plugins": [
    {"type": "bridge", "bridge": "cni-e2e0", "isGateway": true, "ipMasq": false,
     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.87.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}`

// A configuration in the CNI folder takes the built-in network's place, for Pods made from then on.
func TestCNI(t *testing.T) {
	if _, err := os.Stat("/usr/lib/cni/bridge"); err != nil {
		t.Skip("needs the reference CNI plugins in /usr/lib/cni")
	}
	t.Parallel()
	n := ownNode(t)
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("cni-e2e0"); err == nil { // the plugin's, not ours
			if err := netlink.LinkDel(l); err != nil {
				t.Error(err)
			}
		}
	})
	s := newSpaceOn(t, n)
	s.create(shellPod("early", "exec sleep 3600"))
	early := s.awaitRunning("early")
	conf := filepath.Join(n.paths.CNIConf, "10-e2e.conflist")
	if err := os.WriteFile(conf, fmt.Appendf(nil, cniConfig, s.TempDir()), 0o600); err != nil {
		t.Fatal(err)
	}
	subnet := netip.MustParsePrefix("10.87.0.0/24")
	round := 0
	s.eventually("new Pods have addresses of CNI", func() error {
		round++
		name := fmt.Sprintf("web-%d", round)
		s.kubectl("run", name, "--image="+webImage)
		pod := s.awaitRunning(name)
		if !subnet.Contains(netip.MustParseAddr(pod.Status.PodIP)) {
			return fmt.Errorf("the address is %s", pod.Status.PodIP)
		}
		if body := get(s, "http://"+pod.Status.PodIP); !strings.Contains(body, "<html") {
			t.Errorf("from the host: %q", body)
		}
		return nil
	})
	if subnet.Contains(netip.MustParseAddr(early.Status.PodIP)) {
		t.Errorf("an early Pod has the address %s", early.Status.PodIP)
	}
}

// What crictl does, over the runtime's socket: it sees sandboxes and containers, and no pause among these.
func TestCRISocket(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("seen", "echo hello; exec sleep 3600"))
	pod := s.awaitRunning("seen")
	conn, err := grpc.NewClient("unix://"+filepath.Join(s.node.paths.Root, "run", "podium.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	runtime, images := runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	if v, err := runtime.Version(s.ctx, &runtimeapi.VersionRequest{}); err != nil || v.RuntimeApiVersion != "v1" {
		s.Errorf("version: %v, %v", v, err)
	}
	labels := map[string]string{"io.kubernetes.pod.uid": string(pod.UID)}
	sandboxes, err := runtime.ListPodSandbox(s.ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: labels}})
	if err != nil || len(sandboxes.Items) != 1 || sandboxes.Items[0].State != runtimeapi.PodSandboxState_SANDBOX_READY {
		s.Fatalf("sandboxes: %v, %v", sandboxes, err)
	}
	containers, err := runtime.ListContainers(s.ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: labels}})
	if err != nil || len(containers.Containers) != 1 || containers.Containers[0].Metadata.Name != "c0" {
		s.Fatalf("containers: %v, %v", containers, err)
	}
	id := containers.Containers[0].Id
	if !strings.HasSuffix(pod.Status.ContainerStatuses[0].ContainerID, "://"+id) {
		s.Errorf("the API has %s, CRI has %s", pod.Status.ContainerStatuses[0].ContainerID, id)
	}
	ran, err := runtime.ExecSync(s.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "echo in; echo err >&2; exit 3"}, Timeout: 10})
	if err != nil || string(ran.Stdout) != "in\n" || string(ran.Stderr) != "err\n" || ran.ExitCode != 3 {
		s.Errorf("exec: %v, %v", ran, err)
	}
	if st, err := runtime.ContainerStats(s.ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id}); err != nil || st.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
		s.Errorf("stats: %v, %v", st, err)
	}
	list, err := images.ListImages(s.ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		s.Fatal(err)
	}
	found := false
	for _, i := range list.Images {
		for _, tag := range i.RepoTags {
			found = found || tag == shellImage
		}
	}
	if !found {
		s.Errorf("%s is not among the images", shellImage)
	}
}
