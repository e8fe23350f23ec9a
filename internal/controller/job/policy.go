package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what a Pod failure policy makes of a failed Pod.
type verdict struct {
	counts    bool   // against the back-off limit
	failJob   string // the message with which the whole Job fails, "" if it does not
	failIndex bool
}

// judge returns the verdict of the first rule that matches the failed Pod. Without one the failure counts.
func judge(policy *batchv1.PodFailurePolicy, p *corev1.Pod) verdict {
	if policy == nil {
		return verdict{counts: true}
	}
	for i, rule := range policy.Rules {
		what := ""
		switch {
		case rule.OnExitCodes != nil:
			if s := exitedLike(rule.OnExitCodes, p); s != nil {
				what = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					s.Name, p.Namespace, p.Name, s.State.Terminated.ExitCode, rule.Action, i)
			}
		case rule.OnPodConditions != nil:
			if c := conditionLike(rule.OnPodConditions, p); c != nil {
				what = fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, c.Type, rule.Action, i)
			}
		}
		if what == "" {
			continue
		}
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore:
			return verdict{}
		case batchv1.PodFailurePolicyActionFailJob:
			return verdict{counts: true, failJob: what}
		case batchv1.PodFailurePolicyActionFailIndex:
			return verdict{counts: true, failIndex: true}
		case batchv1.PodFailurePolicyActionCount:
			return verdict{counts: true}
		}
	}
	return verdict{counts: true}
}

// exitedLike returns the status of a container that ended as the requirement says, nil if none did. Exit code 0 never
// matches.
func exitedLike(r *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			t := list[i].State.Terminated
			if t == nil || t.ExitCode == 0 || r.ContainerName != nil && *r.ContainerName != list[i].Name {
				continue
			}
			listed := slices.Contains(r.Values, t.ExitCode)
			if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && listed || r.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn && !listed {
				return &list[i]
			}
		}
	}
	return nil
}

func conditionLike(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		for _, want := range patterns {
			if c.Type == want.Type && c.Status == want.Status {
				return c
			}
		}
	}
	return nil
}

// succeeds returns the message of the first rule of the success policy that the succeeded indexes fulfil, "" if none does.
func succeeds(policy *batchv1.SuccessPolicy, n int, succeeded indexes) string {
	if policy == nil || len(succeeded) == 0 {
		return ""
	}
	for i, rule := range policy.Rules {
		met := false
		switch {
		case rule.SucceededIndexes != nil:
			want := parseIndexes(*rule.SucceededIndexes, n)
			have := want.overlap(succeeded)
			met = len(want) > 0 && (have == want.count() || rule.SucceededCount != nil && have >= int(*rule.SucceededCount))
		case rule.SucceededCount != nil:
			met = succeeded.count() >= int(*rule.SucceededCount)
		}
		if met {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}
