package e2e

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/test/registry"
)

// smallImage is an image with a shell and nothing else, that no other test has: its second layer says the mark
// and is large enough to come in pieces.
func smallImage(t *testing.T, mark string, names ...string) *build.Built {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libraries, _ := program.ImportedLibraries(); len(libraries) > 0 {
		t.Fatalf("%s needs libraries; install Debian's busybox-static", path)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := build.Build(build.Image{
		Names:  names,
		Config: ocispec.ImageConfig{Cmd: []string{"/bin/sh", "-c", "echo the mark is $(cat /mark); exec sleep 3600"}, Env: []string{"PATH=/bin"}},
		Layers: [][]build.File{
			{build.Dir("bin", 0o755), build.Plain("bin/busybox", 0o755, busybox), build.Symlink("bin/sh", "busybox"),
				build.Symlink("bin/sleep", "busybox"), build.Symlink("bin/cat", "busybox")},
			{build.Plain("mark", 0o644, []byte(mark)), build.Plain("noise", 0o644, noise(mark))},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// noise cannot be compressed, so that a layer of it is transferred in more than one piece.
func noise(seed string) []byte {
	out := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(out) // never fails
	return out
}

// imagePod is a Pod that runs an image's own command.
func imagePod(name, image string, secrets ...string) *corev1.Pod {
	p := shellPod(name, "")
	p.Spec.Containers[0] = corev1.Container{Name: "c0", Image: image}
	for _, s := range secrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return p
}

// awaitWaiting waits until the first container waits for a reason, with the text in its message.
func (s *space) awaitWaiting(name, text string, reasons ...string) *corev1.Pod {
	s.Helper()
	return s.await(name, fmt.Sprintf("waiting for %v with %q", reasons, text), func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
			return false
		}
		w := p.Status.ContainerStatuses[0].State.Waiting
		for _, r := range reasons {
			if w.Reason == r && strings.Contains(w.Message, text) {
				return true
			}
		}
		return false
	})
}

func (s *space) awaitMark(name, mark string) {
	s.Helper()
	s.awaitRunning(name)
	s.eventually("the image is the right one", func() error {
		if out := s.kubectl("logs", name); out != "the mark is "+mark+"\n" {
			return fmt.Errorf("the log is %q", out)
		}
		return nil
	})
}

// An image is pulled when it is not there, and once for all its Pods.
func TestPull(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	ref := server.Put("team/app", "1", smallImage(t, s.Name()))
	s.create(imagePod("first", ref))
	s.create(imagePod("second", ref))
	s.awaitMark("first", s.Name())
	s.awaitMark("second", s.Name())
	s.eventuallyEvent("first", "Pulling", `Pulling image "`+ref+`"`)
	s.eventuallyEvent("first", "Pulled", `Successfully pulled image "`+ref+`" in `)
	layers := 0
	for _, r := range server.Requests("/blobs/") {
		if strings.HasPrefix(r, "GET ") {
			layers++
		}
	}
	if layers > 3 { // the configuration and two layers
		s.Errorf("transferred more than once: %v", server.Requests("/blobs/"))
	}
	s.eventually("the node tells of its images", func() error {
		if images := s.kubectl("get", "node", s.node.name(), "-o", "jsonpath={.status.images[*].names}"); images == "" {
			return errors.New("none")
		}
		return nil
	})
}

// A registry that wants to know who asks: the Pod's secret opens it, no secret and a wrong one do not.
func TestPullWithCredentials(t *testing.T) {
	s := newSpace(t)
	for kind, auth := range map[string]registry.Auth{"basic": registry.Basic, "bearer": registry.Bearer} {
		server := registry.Start(t)
		server.Auth = auth
		ref := server.Put("private/"+kind, "1", smallImage(t, s.Name()+kind))
		s.create(imagePod(kind+"-none", ref))
		s.awaitWaiting(kind+"-none", "uthoriz", "ErrImagePull", "ImagePullBackOff")
		for name, password := range map[string]string{"good": registry.Password, "bad": "wrong"} {
			s.kubectl("create", "secret", "docker-registry", kind+"-"+name, "--docker-server="+server.Host(),
				"--docker-username="+registry.User, "--docker-password="+password)
		}
		s.create(imagePod(kind+"-wrong", ref, kind+"-bad"))
		s.awaitWaiting(kind+"-wrong", "uthoriz", "ErrImagePull", "ImagePullBackOff")
		s.create(imagePod(kind+"-right", ref, kind+"-good"))
		s.awaitMark(kind+"-right", s.Name()+kind)
		// What was pulled with a secret is not for who has none.
		s.create(imagePod(kind+"-late", ref))
		s.awaitWaiting(kind+"-late", "uthoriz", "ErrImagePull", "ImagePullBackOff")
	}
}

// hosts.toml leads a registry's name to another place.
func TestPullFromMirror(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	server.Put("app", "1", smallImage(t, s.Name()))
	host := s.ns + ".example"
	dir := filepath.Join(s.node.paths.Registries, host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	settings := fmt.Sprintf("server = \"https://%s\"\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", host, server.URL())
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(settings), 0o600); err != nil {
		s.Fatal(err)
	}
	s.create(imagePod("mirrored", host+"/app:1"))
	s.awaitMark("mirrored", s.Name())
}

// What goes wrong with a pull is told with its cause, and leaves the store as it was.
func TestPullFails(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	broken := smallImage(t, s.Name())
	server.Put("broken", "1", broken)
	server.Break(broken.Layers[1])
	server.Fail = func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/down/") {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	for name, text := range map[string]string{"missing": "not found", "broken": "digest", "down": "503"} {
		s.create(imagePod(name, server.Host()+"/"+name+":1"))
		s.awaitWaiting(name, text, "ErrImagePull", "ImagePullBackOff")
		s.says([]string{"get", "pod", name}, "0/1", "ImagePull")
		s.eventuallyEvent(name, "Failed", "Failed to pull image")
	}
	s.eventuallyEvent("missing", "BackOff", "Back-off pulling image")
	if out := s.podium("image", "list"); strings.Contains(out, server.Host()) {
		s.Errorf("something of the failed pulls is in the store:\n%s", out)
	}
	s.refused([]string{"logs", "missing"}, `container "c0" in pod "missing" is waiting to start: `, "image")
}

// A slow pull says how far it is.
func TestPullProgress(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	server.Gate = make(chan struct{})
	ref := server.Put("slow", "1", smallImage(t, s.Name()))
	s.create(imagePod("slow", ref))
	s.awaitWaiting("slow", "of 2 layers", "ContainerCreating")
	s.says([]string{"get", "pod", "slow"}, "ContainerCreating")
	close(server.Gate)
	s.awaitMark("slow", s.Name())
}

func TestImageVerbs(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	ref := server.Put("verbs", "1", smallImage(t, s.Name()))
	id := strings.Fields(s.podium("image", "pull", ref))
	if len(id) == 0 || !strings.HasPrefix(id[len(id)-1], "sha256:") {
		s.Errorf("image pull printed %q", id)
	}
	if out := s.podium("image", "list"); !strings.Contains(out, ref) {
		s.Errorf("image list:\n%s", out)
	}
	archive := filepath.Join(s.TempDir(), "verbs.tar")
	s.podium("image", "export", ref, "-o", archive)
	s.podium("image", "remove", ref)
	if out := s.podium("image", "list"); strings.Contains(out, ref) {
		s.Errorf("removed, and listed:\n%s", out)
	}
	if out := s.podium("image", "load", archive); !strings.Contains(out, ref) {
		s.Errorf("image load printed %q", out)
	}
	never := imagePod("loaded", ref)
	never.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
	s.create(never)
	s.awaitMark("loaded", s.Name())
	for _, bad := range [][]string{{"image", "remove", "no.example/such:1"}, {"image", "pull", server.Host() + "/no/such:1"}, {"image", "load", "/no/such.tar"}, {"image", "pull", "UPPER::x"}} {
		if out, err := s.tryPodium(bad...); err == nil || !strings.Contains(out, bad[2]) {
			s.Errorf("podium %s: %v\n%s", strings.Join(bad, " "), err, out)
		}
	}
}

// An archive dropped into ROOT/images is taken in at once, one that is none is told and harms nothing.
func TestArchivesDropped(t *testing.T) {
	s := newSpace(t)
	for name, write := range map[string]func(*os.File, *build.Built) error{
		"docker": func(f *os.File, b *build.Built) error { return build.WriteDocker(f, b) },
		"oci":    func(f *os.File, b *build.Built) error { return build.WriteOCI(f, b) },
	} {
		ref := "podium.local/" + s.ns + "/" + name + ":1"
		pod := imagePod(name, ref)
		pod.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
		s.create(pod)
		s.awaitWaiting(name, "", "ErrImageNeverPull")
		f, err := os.Create(filepath.Join(s.node.paths.Images, s.ns+"-"+name+".tar"))
		if err != nil {
			s.Fatal(err)
		}
		if err := write(f, smallImage(t, s.Name()+name, ref)); err != nil {
			s.Fatal(err)
		}
		if err := f.Close(); err != nil {
			s.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.node.paths.Images, s.ns+"-bad.tar"), []byte("no archive"), 0o600); err != nil {
		s.Fatal(err)
	}
	for _, name := range []string{"docker", "oci"} {
		s.awaitMark(name, s.Name()+name)
	}
}

// The client goes away: the pull it asked for ends, unless another waits for it.
func TestPullGivenUp(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	server.Gate = make(chan struct{})
	ref := server.Put("given/up", "1", smallImage(t, s.Name()))
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	pull := exec.CommandContext(ctx, binary(), "image", "pull", ref, "--root", s.node.paths.Root)
	if err := pull.Start(); err != nil {
		s.Fatal(err)
	}
	s.eventually("the pull is under way", func() error {
		if len(server.Requests("/blobs/")) == 0 {
			return fmt.Errorf("no layer is asked for")
		}
		return nil
	})
	cancel()
	_ = pull.Wait()
	close(server.Gate)
	s.create(imagePod("after", ref))
	s.awaitMark("after", s.Name())
}
