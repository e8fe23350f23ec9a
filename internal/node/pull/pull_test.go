package pull

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

// registry is a fake image service: it has images, and lets in whom it knows.
type registry struct {
	internalapi.ImageManagerService
	mu      sync.Mutex
	images  map[string]string // ID by name
	err     error
	inspect error
	// need is the user that is let in, "" for everybody.
	need  string
	pulls []string
	enter chan struct{}
	leave chan struct{}
}

func (r *registry) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inspect != nil {
		return nil, r.inspect
	}
	if id, ok := r.images[spec.Image]; ok {
		return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: id, Size: 1234}}, nil
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (r *registry) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if r.enter != nil {
		r.enter <- struct{}{}
		<-r.leave
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulls = append(r.pulls, spec.Image+" as "+auth.GetUsername())
	if r.err != nil {
		return "", r.err
	}
	if r.need != "" && auth.GetUsername() != r.need {
		return "", errors.New("401 unauthorized")
	}
	r.images[spec.Image] = "id-" + spec.Image
	return "id-" + spec.Image, nil
}

type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) Event(_ runtime.Object, eventType, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, eventType+" "+reason+": "+message)
}

func (e *events) Eventf(o runtime.Object, eventType, reason, format string, args ...any) {
	e.Event(o, eventType, reason, fmt.Sprintf(format, args...))
}

func (e *events) AnnotatedEventf(o runtime.Object, _ map[string]string, eventType, reason, format string, args ...any) {
	e.Eventf(o, eventType, reason, format, args...)
}

func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.list
	e.list = nil
	return list
}

type fixture struct {
	*Puller
	registry *registry
	events   *events
	clock    *clocktesting.FakePassiveClock
	secrets  map[string]*v1.Secret
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	f := &fixture{
		registry: &registry{images: map[string]string{}}, events: &events{},
		clock: clocktesting.NewFakePassiveClock(time.Unix(1_700_000_000, 0)), secrets: map[string]*v1.Secret{},
	}
	cfg := Config{
		Images: f.registry, Recorder: f.events, Clock: f.clock, Records: t.TempDir(),
		Secret: func(_ context.Context, _ *v1.Pod, name string) (*v1.Secret, error) {
			if s := f.secrets[name]; s != nil {
				return s, nil
			}
			return nil, errors.New("not found")
		},
	}
	if change != nil {
		change(&cfg)
	}
	f.Puller = New(cfg)
	return f
}

func request(image string, policy v1.PullPolicy, secrets ...string) Request {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	for _, s := range secrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, v1.LocalObjectReference{Name: s})
	}
	return Request{Pod: p, For: &v1.ObjectReference{Name: "p"}, Image: image, Policy: policy}
}

func secret(name, registry, user string) *v1.Secret {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":pass:word"))
	return &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid-" + "x"},
		Type:       v1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{v1.DockerConfigJsonKey: []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry, auth))},
	}
}

func TestPolicies(t *testing.T) {
	present := `Normal Pulled: Container image "web:1" already present on machine and can be accessed by the pod`
	pulling := []string{
		`Normal Pulling: Pulling image "web:1"`,
		`Normal Pulled: Successfully pulled image "web:1" in 0s (0s including waiting). Image size: 1234 bytes.`,
	}
	never := []string{
		`Warning ErrImageNeverPull: Container image "web:1" is not present with pull policy of Never`,
		`Warning Failed: Error: ErrImageNeverPull`,
	}
	tests := []struct {
		policy v1.PullPolicy
		there  bool
		reason string
		events []string
	}{
		{v1.PullAlways, true, "", pulling},
		{v1.PullAlways, false, "", pulling},
		{v1.PullIfNotPresent, true, "", []string{present}},
		{v1.PullIfNotPresent, false, "", pulling},
		{v1.PullNever, true, "", []string{present}},
		{v1.PullNever, false, ErrNeverPull, never},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprintf("%s %v", tc.policy, tc.there), func(t *testing.T) {
			f := newFixture(t, nil)
			if tc.there {
				f.registry.images["web:1"] = "id-web:1"
			}
			res := f.Ensure(t.Context(), request("web:1", tc.policy))
			if res.Reason != tc.reason || (tc.reason == "" && res.Ref != "id-web:1") {
				t.Errorf("result: %+v", res)
			}
			if got := f.events.take(); !slices.Equal(got, tc.events) {
				t.Errorf("events: %q", got)
			}
		})
	}
}

func TestBadNames(t *testing.T) {
	f := newFixture(t, nil)
	res := f.Ensure(t.Context(), request("bad name", v1.PullAlways))
	want := `Failed to apply default image tag "bad name": couldn't parse image name "bad name": invalid reference format`
	if res.Reason != InvalidName || res.Message != want {
		t.Errorf("result: %+v", res)
	}
	if got := f.events.take(); !slices.Equal(got, []string{"Warning InspectFailed: " + want, "Warning Failed: Error: InvalidImageName"}) {
		t.Errorf("events: %q", got)
	}
}

func TestTagIsAdded(t *testing.T) {
	f := newFixture(t, nil)
	f.Ensure(t.Context(), request("web", v1.PullAlways))
	f.Ensure(t.Context(), request("web@sha256:"+fmt.Sprintf("%064d", 0), v1.PullAlways))
	want := []string{"web:latest as ", "web@sha256:" + fmt.Sprintf("%064d", 0) + " as "}
	if !slices.Equal(f.registry.pulls, want) {
		t.Errorf("pulls: %q", f.registry.pulls)
	}
}

func TestInspectFails(t *testing.T) {
	f := newFixture(t, nil)
	f.registry.inspect = errors.New("broken")
	res := f.Ensure(t.Context(), request("web:1", v1.PullIfNotPresent))
	if res.Reason != ErrInspect || res.Message != `Failed to inspect image "web:1": broken` {
		t.Errorf("result: %+v", res)
	}
}

func TestBacksOff(t *testing.T) {
	f := newFixture(t, nil)
	f.registry.err = errors.New("no such host")
	req := request("web:1", v1.PullIfNotPresent)
	for _, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		res := f.Ensure(t.Context(), req)
		if res.Reason != ErrPull || res.Message != "no such host" || !res.Retry.After(f.clock.Now()) {
			t.Fatalf("result: %+v", res)
		}
		f.clock.SetTime(f.clock.Now().Add(time.Second))
		res = f.Ensure(t.Context(), req)
		if res.Reason != BackOff || res.Message != `Back-off pulling image "web:1": ErrImagePull: no such host` {
			t.Fatalf("result: %+v", res)
		}
		if left := res.Retry.Sub(f.clock.Now()); left != (wait-1)*time.Second {
			t.Fatalf("waits %s of %ds", left, wait)
		}
		f.clock.SetTime(res.Retry)
	}
	if n := len(f.registry.pulls); n != 7 {
		t.Errorf("%d pulls", n)
	}
	f.clock.SetTime(f.clock.Now().Add(11 * time.Minute))
	f.Ensure(t.Context(), req)
	f.Forget(req.Pod)
	f.registry.err = nil
	if res := f.Ensure(t.Context(), req); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
}

func TestErrorsThatHaveNames(t *testing.T) {
	f := newFixture(t, nil)
	f.registry.err = errors.New("RegistryUnavailable: down for the night")
	res := f.Ensure(t.Context(), request("web:1", v1.PullAlways))
	if res.Reason != "RegistryUnavailable" || res.Message != "image pull failed for web:1 because the registry is unavailable: down for the night" {
		t.Errorf("result: %+v", res)
	}
}

func TestCredentials(t *testing.T) {
	f := newFixture(t, nil)
	f.registry.need = "right"
	f.secrets["wrong"] = secret("wrong", "reg.example", "wrong")
	f.secrets["right"] = secret("right", "https://reg.example/team", "right")
	f.secrets["other"] = secret("other", "elsewhere.example", "other")
	res := f.Ensure(t.Context(), request("reg.example/team/web:1", v1.PullAlways, "wrong", "other", "right", "missing"))
	if res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
	if want := []string{"reg.example/team/web:1 as right"}; !slices.Equal(f.registry.pulls, want) {
		t.Errorf("pulls: %q", f.registry.pulls)
	}
	f.events.take()
	res = f.Ensure(t.Context(), request("reg.example/team/other:1", v1.PullAlways, "missing"))
	if res.Reason != ErrPull {
		t.Errorf("result: %+v", res)
	}
	want := "Warning FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed."
	if !slices.Contains(f.events.take(), want) {
		t.Error("the missing secret was not told")
	}
}

func TestPrivateImagesStayPrivate(t *testing.T) {
	records := t.TempDir()
	f := newFixture(t, func(c *Config) { c.Records = records })
	f.registry.need = "right"
	f.secrets["right"] = secret("right", "reg.example", "right")
	owner := request("reg.example/web:1", v1.PullIfNotPresent, "right")
	if res := f.Ensure(t.Context(), owner); res.Reason != "" {
		t.Fatalf("result: %+v", res)
	}
	// Another puller on the same records is the node after a restart.
	again := newFixture(t, func(c *Config) { c.Records = records; c.Images = f.registry })
	again.secrets = f.secrets
	if res := again.Ensure(t.Context(), request("reg.example/web:1", v1.PullIfNotPresent)); res.Reason != ErrPull {
		t.Errorf("a pod without the secret got the image: %+v", res)
	}
	if res := again.Ensure(t.Context(), request("reg.example/web:1", v1.PullNever)); res.Reason != ErrNeverPull {
		t.Errorf("a pod without the secret got the image: %+v", res)
	}
	pulls := len(f.registry.pulls)
	if res := again.Ensure(t.Context(), owner); res.Reason != "" || len(f.registry.pulls) != pulls {
		t.Errorf("the owner had to pull again: %+v, %q", res, f.registry.pulls)
	}
	// Put there by other hands it is everybody's.
	f.registry.images["loaded:1"] = "id-loaded"
	if res := again.Ensure(t.Context(), request("loaded:1", v1.PullNever)); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
	// Pulled once without credentials it is everybody's too.
	f.registry.need = ""
	again.clock.SetTime(again.clock.Now().Add(time.Minute))
	if res := again.Ensure(t.Context(), request("reg.example/web:1", v1.PullAlways)); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
	if res := again.Ensure(t.Context(), request("reg.example/web:1", v1.PullNever)); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
	if left, _ := filepath.Glob(filepath.Join(records, "pulling", "*")); len(left) != 0 {
		t.Errorf("intents: %v", left)
	}
}

func TestNodeCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"*.example":{"username":"node","password":"p"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config) { c.NodeCredentials = file })
	f.registry.need = "node"
	if res := f.Ensure(t.Context(), request("reg.example/web:1", v1.PullAlways)); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
	if res := f.Ensure(t.Context(), request("reg.example/web:1", v1.PullNever)); res.Reason != "" {
		t.Errorf("what the node may pull every pod may use: %+v", res)
	}
}

func TestAtMostSoManyAtOnce(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxParallel = 1 })
	f.registry.enter, f.registry.leave = make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() { f.Ensure(t.Context(), request(fmt.Sprintf("web:%d", i), v1.PullAlways)) })
	}
	<-f.registry.enter
	select {
	case <-f.registry.enter:
		t.Error("two at once")
	default:
	}
	f.registry.leave <- struct{}{}
	<-f.registry.enter
	f.registry.leave <- struct{}{}
	wait.Wait()
}

func TestCancelledPullIsNoFailure(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.registry.err = context.Canceled
	cancel()
	f.Ensure(ctx, request("web:1", v1.PullAlways))
	f.registry.err = nil
	if res := f.Ensure(t.Context(), request("web:1", v1.PullAlways)); res.Reason != "" {
		t.Errorf("result: %+v", res)
	}
}

func TestHosts(t *testing.T) {
	tests := []struct {
		pattern, host string
		fits          bool
	}{
		{"reg.example", "reg.example", true},
		{"reg.example:5000", "reg.example:5000", true},
		{"reg.example", "reg.example:5000", false},
		{"*.example", "reg.example", true},
		{"*.example", "a.reg.example", false},
		{"index.docker.io", "docker.io", true},
		{"docker.io", "quay.io", false},
	}
	for _, tc := range tests {
		if got := hostFits(tc.pattern, tc.host); got != tc.fits {
			t.Errorf("%s for %s: %v", tc.pattern, tc.host, got)
		}
	}
}
