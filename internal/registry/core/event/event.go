// Package event serves events. They are one kind in two API groups, core/v1 and events.k8s.io/v1, over one
// storage. The group of a request decides how strictly an event is validated.
package event

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// lifeSeconds is how long an event is kept (kube-apiserver's --event-ttl).
const lifeSeconds = 60 * 60

// Kind returns the kind Event.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.Event]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Event"),
		Resource:   "events",
		Singular:   "event",
		ShortNames: []string{"ev"},
		Namespaced: true,
		New:        func() *corev1.Event { return &corev1.Event{} },
		NewList:    func() runtime.Object { return &corev1.EventList{} },

		Also:                []kit.Alias{newer()},
		Validate:            check,
		ValidateUpdate:      checkUpdate,
		AllowCreateOnUpdate: true,
		Selectable:          selectable,
		Table:               table(),
		TTLSeconds: func(*corev1.Event, uint64, bool) (uint64, error) {
			return lifeSeconds, nil
		},
		Configure: func(env kit.Env) error {
			env.Store.DeleteStrategy = noDependents{env.Store.DeleteStrategy}
			return nil
		},
	})
}

// noDependents states that events have no dependents, so that a delete is a single step whatever propagation is
// requested.
type noDependents struct{ rest.RESTDeleteStrategy }

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (noDependents) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	return rest.Unsupported
}

func selectable(e *corev1.Event) fields.Set {
	about := e.InvolvedObject
	return fields.Set{
		"involvedObject.kind":            about.Kind,
		"involvedObject.namespace":       about.Namespace,
		"involvedObject.name":            about.Name,
		"involvedObject.uid":             string(about.UID),
		"involvedObject.apiVersion":      about.APIVersion,
		"involvedObject.resourceVersion": about.ResourceVersion,
		"involvedObject.fieldPath":       about.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         first(e.Source.Component, e.ReportingController),
		"type":                           e.Type,
	}
}

func table() *kit.Table[*corev1.Event] {
	doc := corev1.Event{}.SwaggerDoc()
	name := column.Name()
	return &kit.Table[*corev1.Event]{
		Columns: []column.Definition{
			column.Text("Last Seen", doc["lastTimestamp"]),
			column.Text("Type", doc["type"]),
			column.Text("Reason", doc["reason"]),
			column.Text("Object", doc["involvedObject"]),
			column.Wide(column.Text("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"])),
			column.Wide(column.Text("Source", doc["source"])),
			column.Text("Message", doc["message"]),
			column.Wide(column.Text("First Seen", doc["firstTimestamp"])),
			column.Wide(column.Text("Count", doc["count"])),
			column.Wide(name),
		},
		Row: row,
	}
}

func row(e *corev1.Event) ([]any, []metav1.TableRowCondition) {
	seenFirst := column.Since(e.FirstTimestamp)
	if e.FirstTimestamp.IsZero() {
		seenFirst = column.SinceMicro(e.EventTime)
	}
	seenLast := column.Since(e.LastTimestamp)
	if e.LastTimestamp.IsZero() {
		seenLast = seenFirst
	}
	count := e.Count
	switch {
	case e.Series != nil:
		seenLast, count = column.SinceMicro(e.Series.LastObservedTime), e.Series.Count
	case e.Count == 0:
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	source := first(e.Source.Component, e.ReportingController)
	if instance := first(e.Source.Host, e.ReportingInstance); instance != "" {
		source += ", " + instance
	}
	return []any{
		seenLast, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), seenFirst, int64(count), e.Name,
	}, nil
}

// first returns the first word that is not empty.
func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
