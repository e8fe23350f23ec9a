package metricsapi

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

const earlier = `# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 100 1700000000000
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 2.097152e+06 1700000000000
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="a",namespace="ns",pod="p"} 1.699999e+09
container_start_time_seconds{container="b",namespace="ns",pod="p"} 1.699999e+09
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="ns",pod="p"} 1 1700000000000
container_cpu_usage_seconds_total{container="b",namespace="ns",pod="p"} 2 1700000000000
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="a",namespace="ns",pod="p"} 1024 1700000000000
container_memory_working_set_bytes{container="b",namespace="ns",pod="p"} 2048 1700000000000
`

func read(t *testing.T, text string) reading {
	t.Helper()
	r, err := parse(strings.NewReader(text), time.UnixMilli(1700000009000))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMetrics(t *testing.T) {
	later := strings.NewReplacer("1700000000000", "1700000002000", "} 2 ", "} 2.5 ", "} 1 ", "} 1.002 ", "total 100 ", "total 103 ").Replace(earlier)
	w := window{read(t, earlier), read(t, later)}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"k": "v"}}}
	n, ok := nodeMetrics(node, w)
	if !ok || n.Usage.Cpu().String() != "1500m" || n.Usage.Memory().String() != "2Mi" || n.Window.Duration != 2*time.Second ||
		n.Timestamp.Unix() != 1700000002 || n.Labels["k"] != "v" {
		t.Errorf("node: %+v", n)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}
	pod.Spec.Containers = []corev1.Container{{Name: "b"}, {Name: "a"}, {Name: "c"}}
	p, ok := podMetrics(pod, w)
	if !ok || len(p.Containers) != 2 || p.Containers[0].Name != "b" || p.Containers[0].Usage.Cpu().String() != "250m" ||
		p.Containers[1].Usage.Cpu().String() != "1m" || p.Containers[1].Usage.Memory().String() != "1Ki" || p.Window.Duration != 2*time.Second {
		t.Errorf("pod: %+v", p)
	}
	pod.Name = "other"
	if _, ok := podMetrics(pod, w); ok {
		t.Error("a Pod that the node does not tell of has metrics")
	}
	table, err := tables{}.ConvertToTable(t.Context(), &metricsv1beta1.PodMetricsList{Items: []metricsv1beta1.PodMetrics{p}}, nil)
	if err != nil || len(table.Rows) != 1 || len(table.ColumnDefinitions) != 4 {
		t.Fatalf("table: %+v, %v", table, err)
	}
	if c := table.Rows[0].Cells; c[0] != "p" || c[1] != "251m" || c[2] != "3Ki" || c[3] != "2s" {
		t.Errorf("row: %v", c)
	}
}

func TestParseGarbage(t *testing.T) {
	if _, err := parse(strings.NewReader("{{{"), start); err == nil {
		t.Error("garbage was read")
	}
}

func TestSelected(t *testing.T) {
	pods := []*corev1.Pod{
		{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"k": "v"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}},
	}
	if got := selected(pods, nil); len(got) != 2 {
		t.Errorf("all: %v", got)
	}
	if got := selected(pods, &metainternal.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"k": "v"})}); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("by label: %v", got)
	}
	if got := selected(pods, &metainternal.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "b")}); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("by name: %v", got)
	}
}
