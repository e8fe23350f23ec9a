package static

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// The documents of these tests: a ConfigMap, a Secret, and Pods that use them.
const (
	settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: red}\n"
	password = "apiVersion: v1\nkind: Secret\nmetadata: {name: password}\nstringData: {word: open}\n"
)

func userOf(name, field string) string {
	return manifest(name, "a") + "    " + field + "\n"
}

// observed is a folder with what it told.
type observed struct {
	*folder
	t      *testing.T
	dir    string
	events *record.FakeRecorder
}

func observe(t *testing.T) *observed {
	t.Helper()
	dir, events := t.TempDir(), record.NewFakeRecorder(100)
	return &observed{newFolder(configFor(dir, &heard{}, events)), t, dir, events}
}

// has looks at the folder and compares the names of its Pods and objects.
func (o *observed) has(slow bool, want string) {
	o.t.Helper()
	all, _, err := o.look(time.Now(), slow)
	if err != nil {
		o.t.Fatal(err)
	}
	var names []string
	for _, object := range all.objects {
		names = append(names, nameOfObject(object).String())
	}
	for _, p := range all.pods {
		names = append(names, strings.TrimSuffix(p.Name, "-node"))
	}
	if got := strings.Join(names, " "); got != want {
		o.t.Errorf("the folder has %q, want %q", got, want)
	}
}

// told compares the event that was told since, "" for none.
func (o *observed) told(want string) {
	o.t.Helper()
	got := ""
	select {
	case got = <-o.events.Events:
		got = strings.ReplaceAll(strings.TrimPrefix(got, "Warning InvalidStaticPod "), o.dir, "D")
	default:
	}
	if got != want {
		o.t.Errorf("told  %q\nwant  %q", got, want)
	}
}

func TestSeveralDocuments(t *testing.T) {
	o := observe(t)
	put(t, o.dir+"/all.yaml", "# all of it\n---\n"+settings+"---\n"+userOf("one", "envFrom: [{configMapRef: {name: settings}}]")+"---\n\n---\n"+manifest("two", "a"))
	o.has(true, "ConfigMap default/settings one two")
	o.told("")

	put(t, o.dir+"/all.yaml", settings+"---\n# the second\n\n"+manifest("one", "a")+"---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\n")
	o.has(false, "ConfigMap default/settings one two")
	o.told(`can't process config file "D/all.yaml": document 3 of 3, at line 17: couldn't parse as pod(it is a Service), please check config file`)
	o.has(true, "ConfigMap default/settings")
	o.told("")
}

func TestLinesOfDocuments(t *testing.T) {
	documents, err := split([]byte("# head\n\na: 1\n---\n---\n\n# c\nb: 2\n--- \na: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, d := range documents {
		lines = append(lines, d.line)
	}
	if len(lines) != 3 || lines[0] != 3 || lines[1] != 8 || lines[2] != 10 {
		t.Errorf("the documents stand at lines %v", lines)
	}
}

func TestObjectsOfTheFolder(t *testing.T) {
	o := observe(t)
	put(t, o.dir+"/pod.yaml", userOf("p", "env: [{name: A, valueFrom: {secretKeyRef: {name: password, key: word}}}]"))
	o.has(true, "")
	o.told(`can't process config file "D/pod.yaml": pod default/p-node: static pods may not reference secrets`)

	// Another object makes it a folder with objects: the words say what is missing.
	put(t, o.dir+"/objects.yaml", settings)
	o.has(false, "ConfigMap default/settings")
	o.told(`can't process config file "D/pod.yaml": pod default/p-node: static pods may not reference secrets that are not in the folder of static pods: there is no Secret default/password in it`)

	put(t, o.dir+"/objects.yaml", settings+"---\n"+password)
	o.has(false, "ConfigMap default/settings Secret default/password p")
	o.told("")

	// A broken edit of the objects leaves them and their users as they were.
	put(t, o.dir+"/objects.yaml", "kind: [")
	o.has(true, "ConfigMap default/settings Secret default/password p")
	if event := <-o.events.Events; !strings.Contains(event, "/objects.yaml") {
		t.Error(event)
	}

	// What needs an object that was taken out ends at the slow look, as what is broken does.
	put(t, o.dir+"/objects.yaml", settings)
	o.has(false, "ConfigMap default/settings p")
	o.has(true, "ConfigMap default/settings")
}

func TestObjectsAreOfTheirNamespace(t *testing.T) {
	o := observe(t)
	put(t, o.dir+"/a.yaml", settings)
	put(t, o.dir+"/b.yaml", strings.Replace(userOf("p", "envFrom: [{configMapRef: {name: settings}}]"), "  name: p", "  name: p\n  namespace: other", 1))
	o.has(true, "ConfigMap default/settings")
	put(t, o.dir+"/a.yaml", strings.Replace(settings, "{name: settings}", "{name: settings, namespace: other}", 1))
	o.has(false, "ConfigMap other/settings p")
	put(t, o.dir+"/c.yaml", manifest("q", "a")+"    envFrom: [{configMapRef: {name: none, optional: true}}]\n")
	o.has(false, "ConfigMap other/settings p q")
}

func TestTwoObjectsOfOneName(t *testing.T) {
	o := observe(t)
	put(t, o.dir+"/a.yaml", settings)
	put(t, o.dir+"/b.yaml", settings+"---\n"+manifest("p", "a"))
	o.has(true, "ConfigMap default/settings p")
	o.told(`static ConfigMap default/settings in "D/b.yaml" is passed over: "D/a.yaml" has one of that name`)
	o.has(true, "ConfigMap default/settings p")
	o.told("")
}

func TestObjectsThatAreRefused(t *testing.T) {
	o := observe(t)
	o.config.CheckObject = func(runtime.Object) field.ErrorList {
		return field.ErrorList{field.Invalid(field.NewPath("data"), "x", "is bad")}
	}
	put(t, o.dir+"/a.yaml", settings)
	o.has(true, "")
	o.told(`can't process config file "D/a.yaml": invalid ConfigMap default/settings: [data: Invalid value: "x": is bad]`)
	if _, err := o.config.parse([]byte(settings), SourceURL, "u"); err == nil || err.Error() != "a ConfigMap is taken from the folder of static pods only" {
		t.Errorf("from a URL: %v", err)
	}
}

// The objects come before the Pods that need them, and again when they change.
func TestObjectsAreHandedOut(t *testing.T) {
	dir := t.TempDir()
	var order []string
	c := configFor(dir, &heard{}, nil)
	c.Objects = func(list []runtime.Object) {
		for _, o := range list {
			if cm, ok := o.(*v1.ConfigMap); ok {
				order = append(order, cm.Data["color"])
			}
		}
		order = append(order, "|")
	}
	c.Sink = func(_ string, pods []*v1.Pod) { order = append(order, "pods") }
	s := newFileSource(c)
	s.config.Clock, s.sink.config.Clock = clock.RealClock{}, clock.RealClock{}
	look := func(want string) {
		t.Helper()
		order = nil
		s.look(false)
		if got := strings.Join(order, " "); got != want {
			t.Errorf("handed out %q, want %q", got, want)
		}
	}
	look("pods") // none
	put(t, dir+"/a.yaml", settings+"---\n"+userOf("p", "envFrom: [{configMapRef: {name: settings}}]"))
	look("red | pods")
	look("")
	put(t, dir+"/a.yaml", strings.Replace(settings, "red", "blue", 1)+"---\n"+userOf("p", "envFrom: [{configMapRef: {name: settings}}]"))
	look("blue |")
	if err := os.Remove(dir + "/a.yaml"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	look("")
	s.folder.files[dir+"/a.yaml"].missing = time.Now().Add(-time.Second)
	look("| pods")
}

// A mirror names nothing of the folder: the API has no such objects.
func TestMirrorsNameNoObjects(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{
		ImagePullSecrets: []v1.LocalObjectReference{{Name: "pull"}},
		Containers: []v1.Container{{
			Name:    "c",
			EnvFrom: []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}},
			Env: []v1.EnvVar{
				{Name: "plain", Value: "1"},
				{Name: "secret", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "password"}, Key: "word"}}},
			},
			VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/v"}},
		}},
		Volumes: []v1.Volume{
			{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}},
			{Name: "w", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "password"}}},
				{DownwardAPI: &v1.DownwardAPIProjection{}},
			}}}},
		},
	}}
	pod.Annotations = map[string]string{}
	mirror := pod.DeepCopy()
	withoutReferences(mirror)
	if left := localReferences(mirror); len(left) > 0 {
		t.Errorf("it names %v", left)
	}
	if got := mirror.Annotations[annotationLocal]; got != "Secret/pull,Secret/password,ConfigMap/settings" {
		t.Errorf("the annotation says %q", got)
	}
	c := mirror.Spec.Containers[0]
	if len(c.Env) != 1 || len(c.EnvFrom) != 0 || len(c.VolumeMounts) != 1 || mirror.Spec.Volumes[0].Projected == nil || len(mirror.Spec.Volumes[1].Projected.Sources) != 1 {
		t.Errorf("it is %+v", mirror.Spec)
	}
	if len(localReferences(pod)) != 5 {
		t.Error("the static Pod itself was changed")
	}
}
