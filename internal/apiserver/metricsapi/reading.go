package metricsapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/kit"
)

// reading is what a node has said at one time: counters of its own and of its containers by Pod and name.
type reading struct {
	at   time.Time
	node counters
	pods map[podName]map[string]counters
}

type podName struct{ namespace, name string }

// counters are what the kernel has counted for a cgroup.
type counters struct {
	// at is when they were read, start when the container was started; zero for unknown.
	at, start time.Time
	// cpu is the time used up to then, in seconds of a core; memory the working set in bytes.
	cpu, memory       float64
	hasCPU, hasMemory bool
}

// use is what is used: cpu as a rate over the window up to at.
type use struct {
	nanoCores, memory int64
	at                time.Time
	window            time.Duration
}

// since works out the use between an earlier reading and this one. A container that was started in between is counted
// from its start. It says no when there is nothing to tell: not read, or no time has passed.
func (c counters) since(old counters) (use, bool) {
	if !c.hasCPU || !c.hasMemory {
		return use{}, false
	}
	if !old.hasCPU || c.start.After(old.at) || c.cpu < old.cpu {
		old = counters{at: c.start}
	}
	window := c.at.Sub(old.at)
	if old.at.IsZero() || window <= 0 {
		return use{}, false
	}
	return use{
		nanoCores: int64((c.cpu - old.cpu) / window.Seconds() * 1e9), memory: int64(c.memory), at: c.at, window: window,
	}, true
}

// fetcher reads nodes by their /metrics/resource, the kubelet's too.
func fetcher(nodes kit.NodeConnector, clk clock.PassiveClock) func(ctx context.Context, node string) (reading, error) {
	return func(ctx context.Context, node string) (reading, error) {
		location, transport, err := nodes.Node(ctx, node)
		if err != nil {
			return reading{}, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.JoinPath("/metrics/resource").String(), nil)
		if err != nil {
			return reading{}, err
		}
		req.Header.Set("Accept", "text/plain;version=0.0.4")
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return reading{}, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			return reading{}, fmt.Errorf("%s: %s", resp.Status, text)
		}
		return parse(resp.Body, clk.Now())
	}
}

// parse reads Prometheus' text format. What has no time of its own was read now.
func parse(r io.Reader, now time.Time) (reading, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return reading{}, fmt.Errorf("read the node's metrics: %w", err)
	}
	out := reading{at: now, pods: map[podName]map[string]counters{}}
	for _, m := range families["node_cpu_usage_seconds_total"].GetMetric() {
		out.node.setCPU(m, now)
	}
	for _, m := range families["node_memory_working_set_bytes"].GetMetric() {
		out.node.memory, out.node.hasMemory = value(m), true
	}
	each := func(family string, set func(*counters, *dto.Metric)) {
		for _, m := range families[family].GetMetric() {
			pod, container := subject(m)
			if out.pods[pod] == nil {
				out.pods[pod] = map[string]counters{}
			}
			c := out.pods[pod][container]
			set(&c, m)
			out.pods[pod][container] = c
		}
	}
	each("container_cpu_usage_seconds_total", func(c *counters, m *dto.Metric) { c.setCPU(m, now) })
	each("container_memory_working_set_bytes", func(c *counters, m *dto.Metric) { c.memory, c.hasMemory = value(m), true })
	each("container_start_time_seconds", func(c *counters, m *dto.Metric) {
		c.start = time.Unix(0, int64(value(m)*1e9))
	})
	return out, nil
}

func (c *counters) setCPU(m *dto.Metric, now time.Time) {
	c.cpu, c.hasCPU, c.at = value(m), true, now
	if m.TimestampMs != nil {
		c.at = time.UnixMilli(m.GetTimestampMs())
	}
}

// value is the value of a metric of any type that has one.
func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	default:
		return m.Untyped.GetValue()
	}
}

// subject is what a metric is about.
func subject(m *dto.Metric) (pod podName, container string) {
	for _, l := range m.GetLabel() {
		switch l.GetName() {
		case "namespace":
			pod.namespace = l.GetValue()
		case "pod":
			pod.name = l.GetValue()
		case "container":
			container = l.GetValue()
		}
	}
	return pod, container
}
