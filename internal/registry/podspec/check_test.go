package podspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"
)

// template reads a Pod's template and fills in the defaults.
func template(t *testing.T, text string) *corev1.PodTemplateSpec {
	t.Helper()
	out := &corev1.PodTemplateSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	if out.Spec.Containers == nil {
		out.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	}
	DefaultTemplate(out)
	return out
}

// TestStoredFaultsMayStay goes through what older versions let in: new objects may not have it, stored ones may.
func TestStoredFaultsMayStay(t *testing.T) {
	path := field.NewPath("template")
	for _, tc := range []struct{ name, text, fault string }{
		{"deletion cost", `metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: x}}`, `template.annotations[controller.kubernetes.io/pod-deletion-cost]`},
		{"affinity selector", `spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z, labelSelector: {matchExpressions: [{key: a, operator: In, values: ["-"]}]}}]}}}`,
			"template.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values[0]"},
		{"preferred anti-affinity selector", `spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: z, namespaceSelector: {matchExpressions: [{key: a, operator: In, values: ["-"]}]}}}]}}}`,
			"template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespaceSelector.matchExpressions[0].values[0]"},
		{"node affinity value", `spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: ["-"]}]}]}}}}`,
			"template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]"},
		{"spread selector", `spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: "-"}}}]}`,
			"template.spec.topologySpreadConstraints[0].labelSelector.matchLabels"},
		{"sysctl of the host", `spec: {hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.x, value: "1"}]}}`, "template.spec.securityContext.sysctls[0].name"},
		{"stray token", `spec: {volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: ../x}}]}}]}`, "template.spec.volumes[0].projected.path"},
		{"half a huge page", `spec: {containers: [{name: c, image: i, resources: {limits: {hugepages-2Mi: 1Mi, cpu: 1}}}]}`, "template.spec.containers[0].resources.limits[hugepages-2Mi]"},
		{"init container restarts when resized", `spec: {initContainers: [{name: j, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]}`, "template.spec.initContainers[0].resizePolicy[0].restartPolicy"},
		{"option of several lines", `spec: {dnsConfig: {options: [{name: "a\nnameserver 6.6.6.6"}]}}`, "template.spec.dnsConfig.options[0]"},
		{"value of several lines", `spec: {dnsConfig: {options: [{name: ndots, value: "1\rx"}]}}`, "template.spec.dnsConfig.options[0]"},
		{"SYS_ADMIN without escalation", `spec: {containers: [{name: c, image: i, securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}}]}`, "template.spec.containers[0].securityContext"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stored := template(t, tc.text)
			fresh := CheckTemplate(stored, nil, path)
			if len(fresh) == 0 || fresh[0].Field != tc.fault {
				t.Errorf("new: %v, want a fault of %s", fresh, tc.fault)
			}
			if faults := CheckTemplate(stored.DeepCopy(), stored, path); len(faults) > 0 {
				t.Errorf("stored: %v", faults)
			}
			if faults := CheckTemplate(stored, template(t, "{}"), path); len(faults) == 0 {
				t.Error("an update brings it in")
			}
		})
	}
}

func TestTemplatesHaveNoEphemeralContainers(t *testing.T) {
	faults := CheckTemplate(template(t, `spec: {ephemeralContainers: [{name: e, image: i}]}`), nil, field.NewPath("t"))
	if len(faults) != 1 || faults[0].Error() != "t.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template" {
		t.Errorf("got %v", faults)
	}
}

// TestAnyPod sends made-up Pods through everything. What is said of them does not matter; that it is said, that
// a second run says the same, and that judging changes nothing, does.
func TestAnyPod(t *testing.T) {
	fill := randfill.NewWithSeed(7).NilChance(0.3).NumElements(0, 2).MaxDepth(12)
	for range 300 {
		pod := &corev1.Pod{}
		fill.Fill(pod)
		Default(pod)
		again := pod.DeepCopy()
		Default(again)
		if diff := cmp.Diff(pod, again); diff != "" {
			t.Fatalf("defaults change a Pod when they run again:\n%s", diff)
		}
		Prune(pod)
		MergeLabelKeys(pod)
		CompletePodResources(pod)
		before := pod.DeepCopy()
		first, second := CheckNew(pod), CheckNew(pod)
		if len(first) != len(second) {
			t.Errorf("%d faults, then %d", len(first), len(second))
		}
		LenienceOf(&pod.Spec, &pod.ObjectMeta)
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Fatalf("judging changes a Pod:\n%s", diff)
		}
		pod.Spec.HostAliases, pod.Spec.DNSConfig = nil, nil // only valid addresses are warned about
		Warn(pod)
	}
}
