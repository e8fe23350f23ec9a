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

// parse reads the Pods of a manifest, in YAML or JSON: a Pod, a list of them, or several such documents. origin
// is the file or URL. Pods are ready to run, but for the time they were seen.
func (c Config) parse(content []byte, source, origin string) ([]*v1.Pod, error) {
	var pods []*v1.Pod
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if blank(document) {
			continue
		}
		more, err := decode(document)
		if err != nil {
			return nil, err
		}
		pods = append(pods, more...)
	}
	if len(pods) == 0 {
		return nil, errEmpty
	}
	for _, pod := range pods {
		if err := c.prepare(pod, source, origin); err != nil {
			return nil, err
		}
	}
	return pods, nil
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

func decode(document []byte) ([]*v1.Pod, error) {
	object, err := readObject(document)
	if err != nil {
		return nil, fmt.Errorf("couldn't parse as pod(%w), please check config file", err)
	}
	switch object := object.(type) {
	case *v1.Pod:
		return []*v1.Pod{object}, nil
	case *v1.PodList:
		var pods []*v1.Pod
		for i := range object.Items {
			pods = append(pods, &object.Items[i])
		}
		return pods, nil
	}
	return nil, fmt.Errorf("couldn't parse as pod(it is a %s), please check config file", object.GetObjectKind().GroupVersionKind().Kind)
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
	what, err := apiReference(pod)
	if err != nil {
		return err
	}
	if what != "" {
		return fmt.Errorf("static pods may not reference %s", what)
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
