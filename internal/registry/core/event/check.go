package event

import (
	"context"
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"

	"podium.dev/podium/internal/registry/kit/validate"
)

// The maximum lengths of an event's fields, in bytes.
const (
	instanceLimit = 128
	actionLimit   = 128
	reasonLimit   = 128
	messageLimit  = 1024
)

// byCore reports whether a request came through core/v1, where the old, laxer rules apply.
func byCore(ctx context.Context) bool {
	info, ok := request.RequestInfoFrom(ctx)
	return ok && info.APIGroup == corev1.GroupName && info.APIVersion == "v1"
}

func check(ctx context.Context, e *corev1.Event) field.ErrorList {
	faults := checkAlways(e, byCore(ctx))
	if byCore(ctx) {
		return faults
	}
	faults = append(faults, validate.Meta(&e.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)...)
	faults = append(faults, checkSeries(e.Series)...)
	if e.EventTime.IsZero() {
		faults = append(faults, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		faults = append(faults, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for name, set := range map[string]bool{
		"firstTimestamp": !e.FirstTimestamp.IsZero(),
		"lastTimestamp":  !e.LastTimestamp.IsZero(),
		"count":          e.Count != 0,
		"source":         e.Source != corev1.EventSource{},
	} {
		if set {
			faults = append(faults, field.Invalid(field.NewPath(name), "", "needs to be unset"))
		}
	}
	return faults
}

func checkUpdate(ctx context.Context, e, old *corev1.Event) field.ErrorList {
	faults := checkAlways(e, byCore(ctx))
	if byCore(ctx) {
		return faults
	}
	faults = append(faults, validate.MetaUpdate(&e.ObjectMeta, &old.ObjectMeta)...)
	if !reflect.DeepEqual(e.Series, old.Series) {
		faults = append(faults, checkSeries(e.Series)...)
	}
	for _, f := range []struct {
		name     string
		now, old any
	}{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject},
		{"reason", e.Reason, old.Reason},
		{"message", e.Message, old.Message},
		{"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count},
		{"type", e.Type, old.Type},
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		faults = append(faults, validate.Immutable(f.now, f.old, field.NewPath(f.name))...)
	}
	// Clients truncate times to microseconds, so smaller differences are allowed.
	if micros(e.EventTime) != micros(old.EventTime) {
		faults = append(faults, validate.Immutable(e.EventTime, old.EventTime, field.NewPath("eventTime"))...)
	}
	return faults
}

func micros(t metav1.MicroTime) time.Time { return t.Truncate(time.Microsecond).UTC() }

func checkSeries(series *corev1.EventSeries) (faults field.ErrorList) {
	if series == nil {
		return nil
	}
	if series.Count < 2 {
		faults = append(faults, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if series.LastObservedTime.IsZero() {
		faults = append(faults, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return faults
}

// checkAlways checks the rules that hold for both groups. An event without an eventTime has the old form.
func checkAlways(e *corev1.Event, core bool) (faults field.ErrorList) {
	about := e.InvolvedObject.Namespace
	elsewhere := field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace")
	if e.EventTime.IsZero() {
		clusterScoped := about == "" && (e.Namespace == metav1.NamespaceNone || e.Namespace == metav1.NamespaceDefault)
		if about != e.Namespace && !clusterScoped {
			faults = append(faults, elsewhere)
		}
		return faults
	}
	if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		faults = append(faults, elsewhere)
	}
	controller := field.NewPath("reportingController")
	if core {
		controller = field.NewPath("reportingComponent")
	}
	if e.ReportingController == "" {
		faults = append(faults, field.Required(controller, ""))
	}
	faults = append(faults, validate.QualifiedName(e.ReportingController, controller)...)
	faults = append(faults, word("reportingInstance", e.ReportingInstance, instanceLimit, true)...)
	faults = append(faults, word("action", e.Action, actionLimit, true)...)
	faults = append(faults, word("reason", e.Reason, reasonLimit, true)...)
	return append(faults, word("message", e.Message, messageLimit, false)...)
}

func word(name, value string, limit int, required bool) field.ErrorList {
	switch {
	case required && value == "":
		return field.ErrorList{field.Required(field.NewPath(name), "")}
	case len(value) > limit:
		return field.ErrorList{field.Invalid(field.NewPath(name), "", fmt.Sprintf("can have at most %v characters", limit))}
	}
	return nil
}
