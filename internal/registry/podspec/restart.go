package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

const (
	// maxRestartRules is how many rules a container may have, maxExitCodes how many codes a rule.
	maxRestartRules = 20
	maxExitCodes    = 255
)

// restartRules judges a container's own restart policy and the rules that go before it. The rules of an init
// container without a policy are not looked at.
func (c *checker) restartRules(ctr *corev1.Container, init bool, at *field.Path) {
	policy := at.Child("restartPolicy")
	switch {
	case ctr.RestartPolicy != nil:
		fielderrors.OneOf(&c.List, policy, *ctr.RestartPolicy,
			corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	case len(ctr.RestartPolicyRules) == 0:
		return
	default:
		c.Required(policy, "must specify restartPolicy when restart rules are used")
		if init {
			return
		}
	}
	rules := at.Child("restartPolicyRules")
	if n := len(ctr.RestartPolicyRules); n > maxRestartRules {
		c.TooMany(rules, n, maxRestartRules)
	}
	for i := range ctr.RestartPolicyRules {
		c.restartRule(&ctr.RestartPolicyRules[i], rules.Index(i))
	}
}

func (c *checker) restartRule(r *corev1.ContainerRestartRule, at *field.Path) {
	fielderrors.OneOf(&c.List, at.Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
	codes := at.Child("exitCodes")
	if r.ExitCodes == nil {
		c.Required(codes, "must be specified")
		return
	}
	fielderrors.OneOf(&c.List, codes.Child("operator"), r.ExitCodes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
	if n := len(r.ExitCodes.Values); n > maxExitCodes {
		c.TooMany(codes.Child("values"), n, maxExitCodes)
	}
}

// resizePolicy judges what a container wants to happen when its resources change while it runs.
func (c *checker) resizePolicy(policies []corev1.ContainerResizePolicy, at *field.Path) {
	seen := sets.New[corev1.ResourceName]()
	for i, p := range policies {
		if seen.Has(p.ResourceName) {
			c.Duplicate(at.Index(i), p.ResourceName)
		}
		seen.Insert(p.ResourceName)
		fielderrors.OneOfRequired(&c.List, at, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		fielderrors.OneOfRequired(&c.List, at, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		if c.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			c.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
		}
	}
}
