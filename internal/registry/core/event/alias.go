package event

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
)

// newer returns the events.k8s.io/v1 form of events: the same data under other names.
func newer() kit.Alias {
	return kit.Alias{
		GVK:        eventsv1.SchemeGroupVersion.WithKind("Event"),
		New:        func() runtime.Object { return &eventsv1.Event{} },
		NewList:    func() runtime.Object { return &eventsv1.EventList{} },
		Convert:    kit.Conversion(toNewer),
		Revert:     kit.Conversion(toCore),
		FieldLabel: fieldLabel,
	}
}

func toNewer(in *corev1.Event, out *eventsv1.Event) error {
	*out = eventsv1.Event{
		ObjectMeta:               in.ObjectMeta,
		EventTime:                in.EventTime,
		ReportingController:      in.ReportingController,
		ReportingInstance:        in.ReportingInstance,
		Action:                   in.Action,
		Reason:                   in.Reason,
		Regarding:                in.InvolvedObject,
		Related:                  in.Related,
		Note:                     in.Message,
		Type:                     in.Type,
		DeprecatedSource:         in.Source,
		DeprecatedFirstTimestamp: in.FirstTimestamp,
		DeprecatedLastTimestamp:  in.LastTimestamp,
		DeprecatedCount:          in.Count,
	}
	if s := in.Series; s != nil {
		out.Series = &eventsv1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return nil
}

func toCore(in *eventsv1.Event, out *corev1.Event) error {
	*out = corev1.Event{
		ObjectMeta:          in.ObjectMeta,
		EventTime:           in.EventTime,
		ReportingController: in.ReportingController,
		ReportingInstance:   in.ReportingInstance,
		Action:              in.Action,
		Reason:              in.Reason,
		InvolvedObject:      in.Regarding,
		Related:             in.Related,
		Message:             in.Note,
		Type:                in.Type,
		Source:              in.DeprecatedSource,
		FirstTimestamp:      in.DeprecatedFirstTimestamp,
		LastTimestamp:       in.DeprecatedLastTimestamp,
		Count:               in.DeprecatedCount,
	}
	if s := in.Series; s != nil {
		out.Series = &corev1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return nil
}

// fieldLabel returns the core/v1 name of a selectable field of events.k8s.io/v1.
func fieldLabel(label, value string) (string, string, error) {
	switch label {
	case "reason", "type", "metadata.name", "metadata.namespace":
		return label, value, nil
	case "reportingController":
		return "reportingComponent", value, nil
	}
	if field, ok := strings.CutPrefix(label, "regarding."); ok {
		old := "involvedObject." + field
		if _, ok := selectable(&corev1.Event{})[old]; ok {
			return old, value, nil
		}
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}
