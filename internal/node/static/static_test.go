package static

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/record"
)

const waiting = 10 * time.Second

func manifest(name, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\nspec:\n  containers:\n  - name: c\n    image: %s\n", name, image)
}

// heard is what a sink was given last.
type heard struct {
	mu    sync.Mutex
	calls int
	pods  map[string]*v1.Pod
}

func (h *heard) sink(_ string, pods []*v1.Pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	h.pods = map[string]*v1.Pod{}
	for _, p := range pods {
		h.pods[p.Name] = p
	}
}

func (h *heard) pod(name string) *v1.Pod {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pods[name+"-node"]
}

// image is that of a Pod's container, "" for a Pod that is not there.
func (h *heard) image(name string) string {
	if p := h.pod(name); p != nil {
		return p.Spec.Containers[0].Image
	}
	return ""
}

func (h *heard) names() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name := range h.pods {
		names = append(names, strings.TrimSuffix(name, "-node"))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waiting); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, waiting)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (h *heard) await(t *testing.T, names string) {
	t.Helper()
	eventually(t, "pods "+names, func() bool { return h.names() == names })
}

func configFor(path string, h *heard, events *record.FakeRecorder) Config {
	return Config{
		NodeName: "Node", Path: path, PathFrequency: time.Hour, Sink: h.sink, Recorder: events,
		Node: func() *v1.ObjectReference { return &v1.ObjectReference{Kind: "Node", Name: "Node"} },
		Default: func(p *v1.Pod) {
			yes := true
			p.Spec.EnableServiceLinks, p.Spec.RestartPolicy = &yes, v1.RestartPolicyAlways
		},
		Check: func(p *v1.Pod) field.ErrorList {
			if len(p.Spec.Containers) == 0 {
				return field.ErrorList{field.Required(field.NewPath("spec", "containers"), "")}
			}
			return nil
		},
	}
}

// follow runs the source of a folder until the test ends.
func follow(t *testing.T, path string) (*heard, *record.FakeRecorder) {
	t.Helper()
	h, events := &heard{}, record.NewFakeRecorder(100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { Run(ctx, configFor(path, h, events)); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "first word", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.calls > 0 })
	return h, events
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/first.yaml", manifest("first", "a:1"))
	h, events := follow(t, dir)
	h.await(t, "first")
	p := h.pod("first")
	if p.Namespace != "default" || p.Spec.NodeName != "Node" || p.Annotations[annotationHash] != string(p.UID) || p.Annotations[annotationSource] != "file" ||
		p.Annotations[annotationSeen] == "" || p.Status.Phase != v1.PodPending || len(p.Spec.Tolerations) != 1 || !*p.Spec.EnableServiceLinks || len(p.UID) != 32 {
		t.Errorf("%+v", p)
	}
	start := time.Now()
	put(t, dir+"/second.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"second","namespace":"x","uid":"own"},"spec":{"containers":[{"name":"c","image":"b"}]}}`)
	h.await(t, "first second")
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Logf("a new file took %v", took)
	}
	if p := h.pod("second"); p.UID != "own" || p.Namespace != "x" {
		t.Errorf("%+v", p)
	}
	if h.pod("first") != p {
		t.Error("a Pod that did not change is another")
	}
	put(t, dir+"/first.yaml", manifest("first", "a:2"))
	eventually(t, "edit", func() bool { return h.image("first") == "a:2" })
	if h.pod("first").UID == p.UID {
		t.Error("another content has the same UID")
	}
	// A broken file tells of itself and leaves the others alone.
	put(t, dir+"/broken.yaml", "a: b: c")
	want := fmt.Sprintf("Warning InvalidStaticPod can't process config file %q: couldn't parse as pod(", dir+"/broken.yaml")
	if got := <-events.Events; !strings.HasPrefix(got, want) {
		t.Errorf("event %q", got)
	}
	put(t, dir+"/third.yaml", "# two of them\n---\n"+manifest("third", "c")+"---\n"+manifest("fourth", "d")+"---\n")
	h.await(t, "first fourth second third")
	if err := os.Remove(dir + "/third.yaml"); err != nil {
		t.Fatal(err)
	}
	h.await(t, "first second")
}

func TestPassedOver(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".hidden.yaml", "a.yaml~", "#a.yaml#", ".a.yaml.swp", "a.yaml.swp", "b.yaml.tmp"} {
		put(t, filepath.Join(dir, name), manifest("no", "a"))
	}
	if err := os.Mkdir(dir+"/sub.yaml", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/sub.yaml/a.yaml", manifest("no", "a"))
	h, _ := follow(t, dir)
	put(t, dir+"/a.yaml", manifest("good", "a"))
	h.await(t, "good")
}

func TestSlowWrite(t *testing.T) {
	dir := t.TempDir()
	h, events := follow(t, dir)
	content := manifest("slow", "a:1")
	f, err := os.Create(dir + "/slow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range content {
		if _, err := f.WriteString(content[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if i%40 == 0 { // let the folder be looked at in between
			put(t, dir+"/other.yaml", manifest("other", fmt.Sprint("o:", i)))
			eventually(t, "other", func() bool { return h.image("other") == fmt.Sprint("o:", i) })
			if h.pod("slow") != nil {
				t.Fatal("a half-written file was taken")
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h.await(t, "other slow")
	if len(events.Events) > 0 {
		t.Errorf("event %q", <-events.Events)
	}
}

func TestEditorsKeepThePod(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/a.yaml"
	put(t, path, manifest("a", "a:1"))
	h, _ := follow(t, dir)
	h.await(t, "a")
	calls := h.calls
	// As vim does it: put aside, write again, drop the old.
	if err := os.Rename(path, path+"~"); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * settle)
	put(t, path, manifest("a", "a:2"))
	if err := os.Remove(path + "~"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "edit", func() bool { return h.image("a") == "a:2" })
	if h.calls != calls+1 {
		t.Errorf("the Pod went away in between: %d words", h.calls-calls)
	}
	// As careful writers do it: write another file, and rename it.
	put(t, dir+"/.a.tmp", manifest("a", "a:3"))
	if err := os.Rename(dir+"/.a.tmp", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rename", func() bool { return h.image("a") == "a:3" })
	// As volumes do it: a link to a folder that is turned.
	for v := range 2 {
		if err := os.MkdirAll(fmt.Sprint(dir, "/..", v), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, fmt.Sprint(dir, "/..", v, "/b.yaml"), manifest("b", fmt.Sprint("b:", v)))
		if err := os.Symlink(fmt.Sprint("..", v), dir+"/..data_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+"/..data_tmp", dir+"/..data"); err != nil {
			t.Fatal(err)
		}
		if v == 0 {
			if err := os.Symlink("..data/b.yaml", dir+"/b.yaml"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "turn of the link", func() bool { return h.image("b") == fmt.Sprint("b:", v) })
	}
}

func TestFolderThatComesAndGoes(t *testing.T) {
	root := t.TempDir()
	dir := root + "/a/b"
	h, _ := follow(t, dir)
	for range 2 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, dir+"/a.yaml", manifest("a", "a"))
		h.await(t, "a")
		if err := os.RemoveAll(root + "/a"); err != nil {
			t.Fatal(err)
		}
		h.await(t, "")
	}
}

func TestOneFile(t *testing.T) {
	path := t.TempDir() + "/pod.yaml"
	put(t, path, manifest("a", "a"))
	h, _ := follow(t, path)
	h.await(t, "a")
}

func TestTwoOfOneName(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/b.yaml", manifest("same", "b"))
	h, events := follow(t, dir)
	h.await(t, "same")
	put(t, dir+"/c.yaml", manifest("same", "c"))
	want := fmt.Sprintf("Warning InvalidStaticPod static Pod default/same-node in %q is passed over: %q has one of that name", dir+"/c.yaml", dir+"/b.yaml")
	if got := <-events.Events; got != want {
		t.Errorf("event %q", got)
	}
	if h.image("same") != "b" {
		t.Error("the second one runs")
	}
	if err := os.Remove(dir + "/b.yaml"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one", func() bool { return h.image("same") == "c" })
}

func TestBrokenEditRunsOnUntilTheSlowLook(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.yaml", manifest("a", "a"))
	f := newFolder(configFor(dir, &heard{}, record.NewFakeRecorder(10)))
	look := func(slow bool) int {
		t.Helper()
		all, _, err := f.look(time.Now(), slow)
		if err != nil {
			t.Fatal(err)
		}
		return len(all.pods)
	}
	if look(true) != 1 {
		t.Fatal("no Pod")
	}
	put(t, dir+"/a.yaml", "kind: Pod\napiVersion: v1\nmetadata: {}\n")
	if look(false) != 1 {
		t.Error("a mistyped edit ended the Pod at once")
	}
	if look(true) != 0 {
		t.Error("a broken file runs for ever")
	}
	put(t, dir+"/a.yaml", manifest("a", "a2"))
	if look(false) != 1 {
		t.Error("the repaired file does not run")
	}
}

func TestRefused(t *testing.T) {
	c := configFor("", &heard{}, nil)
	volume := func(source string) string {
		return manifest("a", "a") + "  volumes:\n  - name: v\n    " + source + "\n"
	}
	for content, want := range map[string]string{
		"":                            "there is nothing in it",
		"# nothing\n---\n":            "there is nothing in it",
		"kind: Pod\napiVersion: v1\n": "invalid pod: name is needed for the pod",
		"kind: Service\napiVersion: v1\nmetadata: {name: a}\n":                                              "couldn't parse as pod(it is a Service), please check config file",
		"kind: Pod\napiVersion: v1\nmetadata: {name: a}\n":                                                  "invalid pod: [spec.containers: Required value]",
		manifest("a", "a") + "  serviceAccountName: default\n":                                              "static pods may not reference serviceaccounts",
		manifest("a", "a") + "  imagePullSecrets: [{name: s}]\n":                                            "static pods may not reference secrets",
		manifest("a", "a") + "    envFrom: [{configMapRef: {name: x}}]\n":                                   "static pods may not reference configmaps",
		manifest("a", "a") + "    env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]\n":         "static pods may not reference secrets",
		volume("secret: {secretName: s}"):                                                                   "static pods may not reference secrets",
		volume("configMap: {name: c}"):                                                                      "static pods may not reference configmaps",
		volume("persistentVolumeClaim: {claimName: c}"):                                                     "static pods may not reference persistentvolumeclaims",
		volume("projected: {sources: [{downwardAPI: {}}, {serviceAccountToken: {path: t}}]}"):               "static pods may not reference serviceaccounts (via projected volumes)",
		volume("hostPath: {path: /}"):                                                                       "",
		"apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n  spec: {containers: [{name: c}]}\n": "",
	} {
		said, err := c.parse([]byte(content), SourceFile, "f")
		for _, pod := range said.pods {
			if err == nil {
				err = checkReferences(pod, nil)
			}
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", content, got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	c := configFor("", &heard{}, nil)
	uid := func(content, source, origin string) string {
		t.Helper()
		said, err := c.parse([]byte(content), source, origin)
		if err != nil {
			t.Fatal(err)
		}
		return string(said.pods[0].UID)
	}
	one := uid(manifest("a", "a"), SourceFile, "f")
	if uid("# comment\n"+manifest("a", "a"), SourceFile, "f") != one {
		t.Error("a comment makes another Pod")
	}
	for _, other := range []string{uid(manifest("a", "b"), SourceFile, "f"), uid(manifest("a", "a"), SourceFile, "g"), uid(manifest("a", "a"), SourceURL, "f")} {
		if other == one {
			t.Error("another content or place has the same UID")
		}
	}
}

func TestURL(t *testing.T) {
	content, status := manifest("a", "a:1"), http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "v" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, content)
	}))
	defer server.Close()
	h := &heard{}
	c := configFor("", h, record.NewFakeRecorder(10))
	c.URL, c.Header, c.URLFrequency = server.URL, http.Header{"X-Key": {"v"}}, time.Hour
	c.Clock = nil
	s := newURLSource(c)
	s.config.Clock, s.sink.config.Clock = realClock, realClock
	ctx := context.Background()
	s.look(ctx)
	if h.image("a") != "a:1" || h.pod("a").Annotations[annotationSource] != "http" {
		t.Errorf("%+v", h.pod("a"))
	}
	s.look(ctx)
	if h.calls != 1 {
		t.Error("the same content was told twice")
	}
	status = http.StatusInternalServerError
	s.look(ctx)
	content, status = "a: b: c", http.StatusOK
	s.look(ctx)
	if h.image("a") != "a:1" || s.failures != 2 {
		t.Errorf("after failures: %q, %d", h.image("a"), s.failures)
	}
	content = manifest("a", "a:2")
	s.look(ctx)
	if h.image("a") != "a:2" || s.failures != 0 {
		t.Errorf("after a change: %q, %d", h.image("a"), s.failures)
	}
	content = ""
	s.look(ctx)
	if h.names() != "" {
		t.Errorf("after all is gone: %s", h.names())
	}
}
