package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/profile"
)

const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func find(t *testing.T, p scheduler.ProfileOptions, name string) scheduler.PluginOptions {
	t.Helper()
	i := slices.IndexFunc(p.Plugins, func(o scheduler.PluginOptions) bool { return o.Name == name })
	if i < 0 {
		t.Fatalf("plugin %s is not enabled", name)
	}
	return p.Plugins[i]
}

func TestRead(t *testing.T) {
	got, err := Read([]byte(head + `
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
percentageOfNodesToScore: 40
leaderElection: {leaderElect: false}
profiles:
- schedulerName: default-scheduler
  plugins:
    multiPoint:
      enabled: [{name: ImageLocality, weight: 5}]
      disabled: [{name: NodeVolumeLimits}, {name: NodePorts}]
    score:
      disabled: [{name: NodeResourcesBalancedAllocation}]
- schedulerName: packed
  percentageOfNodesToScore: 100
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 9}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: MostAllocated
        resources: [{name: cpu, weight: 3}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.InitialBackoff != 2*time.Second || got.MaxBackoff != 20*time.Second || got.PercentageOfNodesToScore != 40 || len(got.Profiles) != 2 {
		t.Errorf("got %+v", got)
	}
	first, second := got.Profiles[0], got.Profiles[1]
	if w := find(t, first, "ImageLocality").Weight; w != 5 {
		t.Errorf("weight %d", w)
	}
	if slices.ContainsFunc(first.Plugins, func(o scheduler.PluginOptions) bool { return o.Name == "NodePorts" }) {
		t.Error("NodePorts was not disabled")
	}
	if p := find(t, first, "NodeResourcesBalancedAllocation"); p.Without != profile.Score {
		t.Errorf("without %b", p.Without)
	}
	if p := find(t, second, "NodeResourcesFit"); p.Without != 0 || p.Weight != 9 || p.Args == nil {
		t.Errorf("fit %+v", p)
	}
	if p := find(t, second, "InterPodAffinity"); p.Without != profile.Score || *second.PercentageOfNodesToScore != 100 {
		t.Errorf("affinity %+v", p)
	}
	if s := scheduler.New(fake.NewClientset(), got); s == nil {
		t.Error("no scheduler")
	}
}

func TestErrorsNameTheField(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown field", "podMaxBackoff: 3\n", `unknown field "podMaxBackoff"`},
		{"wrong kind", "", "no kind"},
		{"unknown plugin", "profiles: [{plugins: {score: {enabled: [{name: Nonsense}]}}}]\n", `profiles[0].plugins.score.enabled[0]: unknown scheduler plugin "Nonsense"`},
		{"plugin that is not here", "profiles: [{plugins: {multiPoint: {enabled: [{name: DynamicResources}]}}}]\n", `profiles[0].plugins.multiPoint.enabled[0]: plugin "DynamicResources" cannot be enabled`},
		{"percentage", "percentageOfNodesToScore: 101\n", "percentageOfNodesToScore: 101 is not in the range"},
		{"back-off", "podInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 2\n", "podMaxBackoffSeconds: must be at least"},
		{"extenders", "extenders: [{urlPrefix: http://x}]\n", "extenders: scheduler extenders are not supported"},
		{"settings of nobody", "profiles: [{pluginConfig: [{name: Nonsense, args: {}}]}]\n", `profiles[0].pluginConfig[0].name: plugin "Nonsense" is not enabled`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := head + tt.text
			if tt.text == "" {
				text = "apiVersion: v1\n"
			}
			_, err := Read([]byte(text))
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) && tt.text != "" {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestSettingsAreChecked(t *testing.T) {
	got, err := Read([]byte(head + `
profiles:
- pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 50, score: 3}, {utilization: 20, score: 3}]}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	err = scheduler.New(fake.NewClientset(), got).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "shape: point 1: utilization 20 is not larger") {
		t.Errorf("error %v", err)
	}
}
