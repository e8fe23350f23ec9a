package fielderrors

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestGoView(t *testing.T) {
	for _, tc := range []struct {
		name  string
		value any
		want  string
	}{
		{"nothing", nil, `null`},
		{"a text", "x", `"x"`},
		{"a number behind a pointer", ptr.To[int32](5), `5`},
		{"a missing struct", (*corev1.Toleration)(nil), `null`},
		{"a struct with its empty fields", corev1.Toleration{Key: "k", TolerationSeconds: ptr.To[int64](3)}, `{"Key":"k","Operator":"","Value":"","Effect":"","TolerationSeconds":3}`},
		{"a list of structs", []corev1.PodIP{{IP: "a"}, {IP: "b"}}, `[{"IP":"a"},{"IP":"b"}]`},
		{"no list", []corev1.PodIP(nil), `null`},
		{"an empty list", []corev1.PodIP{}, `[]`},
		{"an embedded struct in its place", corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "n"}, Key: "k"}, `{"Name":"n","Key":"k","Optional":null}`},
		{"object metadata under its own names", corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}}.ObjectMeta, `{"labels":{"a":"b"}}`},
		{"embedded metadata", corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "n"}},
			`{"name":"n","Spec":{"AccessModes":null,"Selector":null,"Resources":{"Limits":null,"Requests":null},"VolumeName":"","StorageClassName":null,"VolumeMode":null,"DataSource":null,"DataSourceRef":null,"VolumeAttributesClassName":null}}`},
		{"quantities", corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("100m")}}, `{"Limits":{"cpu":"100m"},"Requests":null,"Claims":null}`},
		{"a number or a name", corev1.TCPSocketAction{Port: intstr.FromString("http")}, `{"Port":"http","Host":""}`},
		{"bytes", []byte("hi"), `"aGk="`},
	} {
		got, err := json.Marshal(GoView(tc.value))
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v\nwant %s", tc.name, got, err, tc.want)
		}
	}
}
