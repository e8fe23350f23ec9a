// Package static takes Pods from where the node itself finds them: manifests in a folder, and at a URL. It needs
// no API server. Where there is one, each such Pod has a mirror in it, so that kubectl shows it. ConfigMaps and
// Secrets that stand in the folder are there for its Pods, and for nobody else.
package static

import (
	"context"
	"net/http"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// Sources as the annotation kubernetes.io/config.source names them.
const (
	SourceFile = "file"
	SourceURL  = "http"
)

// Config is what Sources are made from.
type Config struct {
	NodeName string
	// Path is the folder, or the one file, of manifests; "" for none. It is looked at when the kernel tells of
	// a change, and every PathFrequency in case it did not.
	Path          string
	PathFrequency time.Duration
	// URL is asked every URLFrequency, with Header; "" for none.
	URL          string
	Header       http.Header
	URLFrequency time.Duration
	// Default fills in what the API server would, Check finds what it would refuse.
	Default func(*v1.Pod)
	Check   func(*v1.Pod) field.ErrorList
	// DefaultObject and CheckObject do so for ConfigMaps and Secrets.
	DefaultObject func(runtime.Object)
	CheckObject   func(runtime.Object) field.ErrorList
	// Objects is given all ConfigMaps and Secrets of the folder whenever they change, before Sink is given the
	// Pods that need them. They must not be changed. It is not called while the folder has none; nil is for nobody.
	Objects func([]runtime.Object)
	// Sink is given all Pods of a source, the first time when it is known what there is, and then whenever
	// they change. The Pods must not be changed. It is called for one source at a time.
	Sink func(source string, pods []*v1.Pod)
	// Recorder is told of manifests that cannot run, as events of the object that Node returns; nil for
	// nobody.
	Recorder record.EventRecorder
	Node     func() *v1.ObjectReference
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Names are the sources that a configuration has: those that Sink will hear of.
func (c Config) Names() []string {
	var names []string
	if c.Path != "" {
		names = append(names, SourceFile)
	}
	if c.URL != "" {
		names = append(names, SourceURL)
	}
	return names
}

// Run follows the sources until ctx ends.
func Run(ctx context.Context, c Config) {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	var sources sync.WaitGroup
	if c.Path != "" {
		sources.Go(func() { newFileSource(c).run(ctx) })
	}
	if c.URL != "" {
		sources.Go(func() { newURLSource(c).run(ctx) })
	}
	sources.Wait()
}

// warn tells of a manifest that cannot run.
func (c Config) warn(format string, args ...any) {
	if c.Recorder == nil || c.Node == nil {
		return
	}
	if node := c.Node(); node != nil {
		c.Recorder.Eventf(node, v1.EventTypeWarning, "InvalidStaticPod", format, args...)
	}
}
