package static

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// Annotations of static Pods, and of their mirrors.
const (
	annotationSource = "kubernetes.io/config.source"
	annotationHash   = "kubernetes.io/config.hash"
	annotationSeen   = "kubernetes.io/config.seen"
)

// maxManifest bounds what is read of a file or a URL.
const maxManifest = 10 << 20

// errEmpty is a manifest without a document.
var errEmpty = errors.New("there is nothing in it")

// content is what a file, a URL or the whole folder says.
type content struct {
	pods []*v1.Pod
	// objects are the ConfigMaps and Secrets that stand in a file, for the static Pods of its folder.
	objects []runtime.Object
}

// parse reads a manifest, in YAML or JSON: a Pod, a list of them, or several documents, among them ConfigMaps
// and Secrets where it is a file. origin is the file or URL. All is ready to be used, but for the time the Pods
// were seen, and for their references, which the whole folder answers. The error names the document that is at
// fault, where there are several.
func (c Config) parse(text []byte, source, origin string) (content, error) {
	var m content
	documents, err := split(text)
	if err != nil {
		return m, err
	}
	for i, d := range documents {
		if err := c.add(&m, d.text, source, origin); err != nil {
			if len(documents) > 1 {
				err = fmt.Errorf("document %d of %d, at line %d: %w", i+1, len(documents), d.line, err)
			}
			return content{}, err
		}
	}
	if len(documents) == 0 {
		return m, errEmpty
	}
	return m, nil
}

// document is one part of a YAML stream.
type document struct {
	text []byte
	// line is that of the stream at which its first word stands, counted from one.
	line int
}

// split takes a YAML stream apart and leaves out the documents that say nothing.
func split(stream []byte) ([]document, error) {
	var documents []document
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	from := 0
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		if blank(text) {
			continue
		}
		// The reader gives back the stream's own bytes, without the lines between the documents.
		at := from + max(bytes.Index(stream[from:], text), 0)
		documents = append(documents, document{text, 1 + bytes.Count(stream[:at], []byte("\n")) + linesAbove(text)})
		from = min(at+len(text), len(stream))
	}
}

// linesAbove counts the lines of a document before the first that says something.
func linesAbove(text []byte) (n int) {
	for line := range bytes.Lines(text) {
		if !blank(line) {
			break
		}
		n++
	}
	return n
}

// blank reports whether a document has comments and space only.
func blank(document []byte) bool {
	for line := range bytes.Lines(document) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// add takes one document into the manifest.
func (c Config) add(m *content, text []byte, source, origin string) error {
	object, err := readObject(text)
	if err != nil {
		return fmt.Errorf("couldn't parse as pod(%w), please check config file", err)
	}
	var pods []*v1.Pod
	switch object := object.(type) {
	case *v1.Pod:
		pods = append(pods, object)
	case *v1.PodList:
		for i := range object.Items {
			pods = append(pods, &object.Items[i])
		}
	case *v1.ConfigMap, *v1.Secret:
		if source != SourceFile {
			return fmt.Errorf("a %s is taken from the folder of static pods only", kindOf(object))
		}
		if err := c.prepareObject(object); err != nil {
			return err
		}
		m.objects = append(m.objects, object)
	default:
		return fmt.Errorf("couldn't parse as pod(it is a %s), please check config file", object.GetObjectKind().GroupVersionKind().Kind)
	}
	for _, pod := range pods {
		if err := c.prepare(pod, source, origin); err != nil {
			return err
		}
	}
	m.pods = append(m.pods, pods...)
	return nil
}

func readObject(document []byte) (runtime.Object, error) {
	asJSON, err := utilyaml.ToJSON(document)
	if err != nil {
		return nil, err
	}
	object, kind, err := scheme.Codecs.UniversalDeserializer().Decode(asJSON, nil, nil)
	if err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(*kind)
	return object, nil
}

// prepare makes a Pod of a manifest one of this node's: with defaults, an identity that follows from its content
// and place, and the node's name in its own. The error says why it cannot run.
func (c Config) prepare(pod *v1.Pod, source, origin string) error {
	if pod.Name == "" {
		return errors.New("invalid pod: name is needed for the pod")
	}
	pod.TypeMeta.Kind, pod.TypeMeta.APIVersion = "", ""
	if c.Default != nil {
		c.Default(pod)
	}
	if pod.UID == "" {
		uid, err := c.identity(pod, source, origin)
		if err != nil {
			return err
		}
		pod.UID = uid
	}
	pod.Name += "-" + strings.ToLower(c.NodeName)
	if pod.Namespace == "" {
		pod.Namespace = v1.NamespaceDefault
	}
	pod.Spec.NodeName = c.NodeName
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotationHash] = string(pod.UID)
	pod.Annotations[annotationSource] = source
	if source == SourceFile {
		tolerate(pod)
	}
	pod.Status = v1.PodStatus{Phase: v1.PodPending}
	if c.Check != nil {
		if errs := c.Check(pod); len(errs) > 0 {
			return fmt.Errorf("invalid pod: %v", errs)
		}
	}
	return nil
}

// identity is the UID of a Pod without one: the hash of all it says and of where it says it, so that each
// change makes another Pod.
func (c Config) identity(pod *v1.Pod, source, origin string) (types.UID, error) {
	content, err := json.Marshal(pod)
	if err != nil {
		return "", err
	}
	hash := fnv.New128a()
	hash.Write(content)
	if source == SourceFile {
		fmt.Fprintf(hash, "host:%sfile:%s", c.NodeName, origin)
	} else {
		fmt.Fprintf(hash, "url:%s", origin)
	}
	return types.UID(hex.EncodeToString(hash.Sum(nil))), nil
}

// tolerate keeps a Pod where it is when the node has problems.
func tolerate(pod *v1.Pod) {
	want := v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}
	for _, t := range pod.Spec.Tolerations {
		if t.MatchToleration(&want) {
			return
		}
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, want)
}
