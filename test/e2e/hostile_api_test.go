package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/pidfd"
)

// attacker is a client with the token of a namespace's default service account, as every Pod has it.
type attacker struct {
	*space
	token string
	http  *http.Client
}

func (s *space) attacker() *attacker {
	s.Helper()
	ca, err := os.ReadFile(s.ca())
	if err != nil {
		s.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	a := &attacker{space: s, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}}
	s.eventually("the default service account is there", func() error {
		answer, err := s.node.client.CoreV1().ServiceAccounts(s.ns).CreateToken(s.ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err == nil {
			a.token = answer.Status.Token
		}
		return err
	})
	s.Cleanup(a.http.CloseIdleConnections)
	return a
}

// reviews is what every service account may post to.
const reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

// post sends a body, and returns the code and the first of what was said.
func (a *attacker) post(ctx context.Context, contentType string, body io.Reader) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.node.bind+reviews, body)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	r.Header.Set("Content-Type", contentType)
	answer, err := a.http.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return answer.StatusCode, string(said), err
}

const review = `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`

// Hundreds of requests whose bodies do not come keep neither the control plane's requests from being served nor those of others.
func TestHostileSlowBodies(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s, other := newSpaceOn(t, n), newSpaceOn(t, n)
	a, b := s.attacker(), other.attacker()
	ctx, cancel := context.WithCancel(s.ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	const requests, pending = 260, 64
	codes := make(chan int, requests)
	for range requests {
		all.Add(1)
		go func() {
			defer all.Done()
			body, end := io.Pipe()
			defer context.AfterFunc(ctx, func() { end.CloseWithError(context.Canceled) })()
			if code, _, err := a.post(ctx, "application/json", body); err == nil {
				codes <- code
			}
		}()
	}
	for range requests - pending {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Fatalf("a slow request was answered with %d", code)
		}
	}
	// The attack is on. The lease is renewed, a Pod runs, another tenant is served.
	lease := func() time.Time {
		l, err := n.client.CoordinationV1().Leases("kube-node-lease").Get(s.ctx, n.name(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Spec.RenewTime.Time
	}
	before := lease()
	other.create(shellPod("meanwhile", "sleep 1000"))
	other.awaitRunning("meanwhile")
	if code, said, err := b.post(s.ctx, "application/json", strings.NewReader(review)); err != nil || code != http.StatusCreated {
		t.Errorf("another tenant: %d %s %v", code, said, err)
	}
	s.eventually("the node's lease is renewed", func() error {
		if !lease().After(before) {
			return fmt.Errorf("it is as it was, of %v", before)
		}
		return nil
	})
}

// Bodies that decoders blow up are refused, and cost the daemon no more than a small multiple of what was sent.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	a := s.attacker()
	text := strings.Repeat("x", 100<<10)
	for name, tc := range map[string]struct{ kind, body, said string }{
		"aliases":     {"application/yaml", "a: &a " + text + "\nb: [" + strings.Repeat("*a,", 20000) + "*a]\n", "aliases"},
		"empties":     {"application/json", `{"items":[` + strings.Repeat("{},", 500000) + "{}]}", "send fewer"},
		"nulls":       {"application/json", `{"items":[` + strings.Repeat("null,", 500000) + "null]}", "send fewer"},
		"empty lines": {"application/yaml", "items:\n" + strings.Repeat("-\n", 500000), "lines and commas"},
		"protobuf":    {"application/vnd.kubernetes.protobuf", "k8s\x00\x12\xc0\x84\x3d" + strings.Repeat("\x12\x00", 500000), "send fewer"},
		"gzip":        {"application/json", "\x1f\x8b\x08" + strings.Repeat("\x00", 1000), "invalid character"},
	} {
		before := n.peak(t)
		code, said, err := a.post(s.ctx, tc.kind, strings.NewReader(tc.body))
		if err != nil || code < 400 || code >= 500 || !strings.Contains(said, tc.said) {
			t.Errorf("%s: %d %.300s %v", name, code, said, err)
		}
		// The daemon's other work is in this too.
		if grown := n.peak(t) - before; grown > 64<<20+100*len(tc.body) {
			t.Errorf("%s: %d bytes made the daemon grow by %d", name, len(tc.body), grown)
		}
	}
	before := n.peak(t)
	pod := shellPod("many", "true")
	for i := range 10000 {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("x", i), Image: shellImage})
	}
	if _, err := n.client.CoreV1().Pods(s.ns).Create(s.ctx, pod, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "spec.containers: Too many: 10001: must have at most 256 items") {
		t.Errorf("10 001 containers: %v", err)
	}
	if grown := n.peak(t) - before; grown > 128<<20 {
		t.Errorf("10 001 containers made the daemon grow by %d", grown)
	}
	if code, said, err := a.post(s.ctx, "application/json", strings.NewReader(review)); err != nil || code != http.StatusCreated {
		t.Errorf("afterwards: %d %s %v", code, said, err)
	}
}

// peak is the most memory that the daemon ever had, in bytes.
func (n *node) peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid(t)))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no peak in %s", status)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// Who may update requests for certificates approves and signs those of his own signers only, and nobody asks for the masters' group.
func TestHostileSigners(t *testing.T) {
	s := newSpace(t)
	role, request := s.ns+"-csr", s.ns
	s.kubectl("create", "clusterrole", role, "--verb=get,create,update,patch", "--resource=certificatesigningrequests,certificatesigningrequests/approval,certificatesigningrequests/status")
	s.Cleanup(func() { s.cleanup("clusterrole/"+role, "clusterrolebinding/"+role, "csr/"+request) })
	s.kubectl("create", "clusterrolebinding", role, "--clusterrole="+role, "--user="+role)
	csr := func(group, signer string) string {
		return "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: " + request + "}\n" +
			"spec: {signerName: " + signer + ", usages: [client auth], request: " + certificateRequest(t, group) + "}\n"
	}
	s.apply(csr("dev", "example.com/ca"))
	s.eventually("the right is there", func() error { _, err := s.try("--as="+role, "get", "csr", request); return err })
	s.refused([]string{"--as=" + role, "certificate", "approve", request}, `user not permitted to approve requests with signerName "example.com/ca"`)
	s.refused([]string{"--as=" + role, "certificate", "deny", request}, `user not permitted to approve requests with signerName "example.com/ca"`)
	s.refused([]string{"--as=" + role, "patch", "csr", request, "--subresource=status", "--type=merge", "-p",
		`{"status":{"conditions":[{"type":"Failed","status":"True","reason":"x","message":"x"}]}}`}, `user not permitted to sign requests with signerName "example.com/ca"`)
	s.refusedInput(csr("system:masters", "kubernetes.io/kube-apiserver-client"), []string{"create", "-f", "-", "--as=" + role},
		"use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed")
	s.apply("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: " + role + "-signer}\n" +
		"rules: [{apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [example.com/*], verbs: [approve]}]\n")
	s.Cleanup(func() { s.cleanup("clusterrole/"+role+"-signer", "clusterrolebinding/"+role+"-signer") })
	s.kubectl("create", "clusterrolebinding", role+"-signer", "--clusterrole="+role+"-signer", "--user="+role)
	s.eventually("with the right on the signer it is approved", func() error {
		out, err := s.try("--as="+role, "certificate", "approve", request)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// certificateRequest is a request in PEM for a certificate of a group, in base64.
func certificateRequest(t *testing.T, group string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{group}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// cleanup deletes objects that are in no namespace.
func (s *space) cleanup(objects ...string) {
	s.ctx = context.Background()
	for _, o := range objects {
		if out, err := s.try("delete", "--ignore-not-found", o); err != nil {
			s.Errorf("delete %s: %v\n%s", o, err, out)
		}
	}
}

// A token for a century lives for a year, and the client is told.
func TestHostileTokenLife(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "serviceaccount", "robot")
	cmd := s.kubectlCommand("create", "token", "robot", "--duration=999999h")
	var out, warned bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &warned
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &warned)
	}
	if !strings.Contains(warned.String(), "requested expiration of 3599996400 seconds shortened to 31536000 seconds") {
		t.Errorf("warned of %q", &warned)
	}
	var c jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimSpace(out.String()), &c); err != nil {
		t.Fatal(err)
	}
	if life := c.ExpiresAt.Sub(c.IssuedAt.Time); life != 365*24*time.Hour {
		t.Errorf("the token lives %v", life)
	}
}

// No server of the node agrees on a suite in CBC mode.
func TestHostileCipherSuites(t *testing.T) {
	s := newSpace(t)
	node, err := s.node.client.CoreV1().Nodes().Get(s.ctx, s.node.name(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent := fmt.Sprintf("127.0.0.1:%d", node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	var cbc []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if strings.Contains(suite.Name, "_CBC_") {
			cbc = append(cbc, suite.ID)
		}
	}
	for name, at := range map[string]string{"API server": s.node.bind, "node's server": agent} {
		// The agreement on a suite alone is of interest: the server shows its certificate after that.
		agreed := func(suites ...uint16) (yes bool) {
			conn, err := tls.Dial("tcp", at, &tls.Config{
				InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: suites,
				VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { yes = true; return nil },
			})
			if err == nil {
				conn.Close()
			}
			return yes
		}
		if agreed(cbc...) {
			t.Errorf("%s agrees on a suite in CBC mode", name)
		}
		if !agreed(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) {
			t.Errorf("%s does not agree on a suite that is safe", name)
		}
	}
}

// A fork bomb has as many processes as the first settings give a Pod.
func TestHostileForks(t *testing.T) {
	s := newSpace(t)
	settings, err := os.ReadFile(s.node.paths.KubeletConfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\npodPidsLimit: 4096\n", "\n  pid.available: 10%\n"} {
		if !strings.Contains(string(settings), want) {
			t.Errorf("the first settings have no %q", strings.TrimSpace(want))
		}
	}
	uid := string(s.create(shellPod("bomb", "sleep 1000")).UID)
	s.awaitRunning("bomb")
	var files []string
	for _, level := range []string{"kubepods/pod" + uid, "kubepods/*/pod" + uid} {
		for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
			found, _ := filepath.Glob(filepath.Join(top, s.node.paths.CgroupParent, level, "pids.max"))
			files = append(files, found...)
		}
	}
	if len(files) == 0 {
		t.Fatal("the Pod's cgroup has no limit of processes")
	}
	for _, f := range files {
		if most, err := os.ReadFile(f); err != nil || strings.TrimSpace(string(most)) != "4096" {
			t.Errorf("%s: %s %v", f, most, err)
		}
	}
}

// When the daemon takes more memory than it may, the kernel ends it alone: the Pods run on, and the next start takes them over.
func TestHostileDaemonMemory(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(shellPod("steady", "sleep 1000"))
	before := s.awaitRunning("steady")
	group := func(pid int) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.SplitN(strings.TrimSpace(line), ":", 3); f[1] == "memory" || f[0] == "0" && f[1] == "" && !strings.Contains(string(text), ":memory:") {
				return f[2]
			}
		}
		return ""
	}
	pid := n.pid(t)
	if got, want := group(pid), filepath.Join(n.paths.CgroupParent, "podium-daemon"); got != want {
		t.Fatalf("the daemon is in cgroup %q, expected %q", got, want)
	}
	shims := n.children(t, pid)
	if len(shims) == 0 {
		t.Fatal("the daemon has no shim")
	}
	for _, shim := range shims {
		if got, want := group(shim), filepath.Join(n.paths.CgroupParent, "podium-shims"); got != want {
			t.Errorf("process %d, which the daemon started, is in cgroup %q, expected %q", shim, got, want)
		}
	}
	// Its limit is brought to its memory, which then grows: a machine with cgroup v1 refuses a limit below what is in use.
	limit, usage := "/sys/fs/cgroup/memory"+group(pid)+"/memory.limit_in_bytes", "memory.usage_in_bytes"
	if _, err := os.Stat(limit); err != nil {
		limit, usage = "/sys/fs/cgroup"+group(pid)+"/memory.max", "memory.current"
	}
	usage = filepath.Join(filepath.Dir(limit), usage)
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	ended := func() bool {
		gone, err := pidfd.Await(handle, 0)
		return err == nil && gone
	}
	s.eventually("the kernel ends the daemon", func() error {
		used, err := os.ReadFile(usage)
		if err != nil {
			return err
		}
		if err := os.WriteFile(limit, bytes.TrimSpace(used), 0o644); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		defer cancel()
		_, err = n.client.CoreV1().ConfigMaps(s.ns).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "weight-"}, Data: map[string]string{"x": strings.Repeat("x", 900<<10)},
		}, metav1.CreateOptions{})
		if ended() {
			return nil
		}
		text, _ := os.ReadFile(limit)
		return fmt.Errorf("it lives with a limit of %s (%v)", bytes.TrimSpace(text), err)
	})
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	after := s.awaitRunning("steady")
	if was, is := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; was.ContainerID != is.ContainerID || is.RestartCount != 0 {
		t.Errorf("the container was touched: %s", describe(after))
	}
}

// children are the processes that a process has started and that still run.
func (n *node) children(t *testing.T, pid int) (list []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, _ := os.ReadFile(f) // a thread may have ended
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, child)
		}
	}
	return list
}
