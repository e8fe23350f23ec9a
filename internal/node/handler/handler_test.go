package handler

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestPort(t *testing.T) {
	c := &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: 80}}}
	for _, tc := range []struct {
		param intstr.IntOrString
		want  int
		fails string
	}{
		{intstr.FromInt32(8080), 8080, ""},
		{intstr.FromString("web"), 80, ""},
		{intstr.FromString("none"), 0, `port "none" not found`},
		{intstr.FromInt32(0), 0, "invalid port number: 0"},
		{intstr.FromInt32(65536), 0, "invalid port number: 65536"},
	} {
		got, err := Port(tc.param, c)
		if got != tc.want || (err == nil) != (tc.fails == "") || (err != nil && err.Error() != tc.fails) {
			t.Errorf("%s: %d, %v", tc.param.String(), got, err)
		}
	}
}
