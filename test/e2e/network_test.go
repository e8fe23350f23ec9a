package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodToPod(t *testing.T) {
	s := newSpace(t)
	s.kubectl("run", "web", "--image="+webImage)
	s.create(shellPod("client", "exec sleep 3600"))
	web := s.awaitRunning("web")
	s.awaitRunning("client")
	if out := s.kubectl("exec", "client", "--", "wget", "-q", "-O", "-", "http://"+web.Status.PodIP); !strings.Contains(strings.ToLower(out), "<html") {
		s.Errorf("Pod to Pod: %q", out)
	}
}

func TestHostPort(t *testing.T) {
	s := newSpace(t)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		s.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	pod := shellPod("web", "")
	pod.Spec.Containers[0] = corev1.Container{Name: "web", Image: webImage, Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: int32(port)}}}
	s.create(pod)
	got := s.awaitRunning("web")
	for _, host := range []string{got.Status.HostIP, "127.0.0.1"} {
		s.eventually("the host port answers on "+host, func() error {
			resp, err := http.Get(fmt.Sprintf("http://%s:%d/", host, port))
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
	}
}

// The API answers at the cluster IP of the `kubernetes` Service, with the token that every Pod is given.
func TestServiceAccountTokenAndClusterIP(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("client", "exec sleep 3600"))
	s.awaitRunning("client")
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount/"
	if out := s.kubectl("exec", "client", "--", "cat", dir+"namespace"); out != s.ns {
		s.Errorf("namespace: %q", out)
	}
	if out := s.kubectl("exec", "client", "--", "cat", dir+"ca.crt"); !strings.Contains(out, "BEGIN CERTIFICATE") {
		s.Errorf("ca.crt: %q", out)
	}
	if out := s.kubectl("exec", "client", "--", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"); out != "10.96.0.1:443\n" {
		s.Errorf("environment: %q", out)
	}
	out := s.kubectl("exec", "client", "--", "sh", "-c",
		`curl -s -k -H "Authorization: Bearer $(cat `+dir+`token)" https://10.96.0.1/version`)
	if !strings.Contains(out, `"minor": "37"`) {
		s.Errorf("the API from inside: %q", out)
	}
}

func TestPodFiles(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("files", "exec sleep 3600")
	pod.Spec.Hostname, pod.Spec.Subdomain = "me", "sub"
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"db.example"}}}
	pod.Spec.DNSPolicy = corev1.DNSNone
	pod.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53"}, Searches: []string{"example"}}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "A", Value: "a"}, {Name: "B", Value: "$(A)-b"},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
	}
	s.create(pod)
	got := s.awaitRunning("files")
	for script, want := range map[string][]string{
		"cat /etc/hosts":       {"# Kubernetes-managed hosts file.", got.Status.PodIP + "\t", "192.0.2.7\tdb.example"},
		"cat /etc/resolv.conf": {"nameserver 192.0.2.53", "search example"},
		"hostname":             {"me\n"},
		"echo $B $IP":          {"a-b " + got.Status.PodIP},
	} {
		out := s.kubectl("exec", "files", "--", "sh", "-c", script)
		for _, text := range want {
			if !strings.Contains(out, text) {
				s.Errorf("%s has no %q:\n%s", script, text, out)
			}
		}
	}
}

func TestHostNamespaces(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("host", "exec sleep 3600")
	pod.Spec.HostNetwork, pod.Spec.HostPID, pod.Spec.HostIPC = true, true, true
	s.create(pod)
	got := s.awaitRunning("host")
	if got.Status.PodIP != got.Status.HostIP {
		s.Errorf("podIP %s, hostIP %s", got.Status.PodIP, got.Status.HostIP)
	}
	for _, ns := range []string{"net", "pid", "ipc"} {
		inside := strings.TrimSpace(s.kubectl("exec", "host", "--", "readlink", "/proc/self/ns/"+ns))
		outside, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			s.Fatal(err)
		}
		if inside != outside {
			s.Errorf("%s: %s inside, %s outside", ns, inside, outside)
		}
	}
	shared := shellPod("shared", "exec sleep 3600", "exec sleep 3601")
	yes := true
	shared.Spec.ShareProcessNamespace = &yes
	s.create(shared)
	s.awaitRunning("shared")
	if out := s.kubectl("exec", "shared", "-c", "c0", "--", "ps"); !strings.Contains(out, "3601") || !strings.Contains(out, "pause") {
		s.Errorf("shared process namespace:\n%s", out)
	}
}
