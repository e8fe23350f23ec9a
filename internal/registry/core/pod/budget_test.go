package pod

import (
	"errors"
	"fmt"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func budgetWith(change func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 2},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: 0, CurrentHealthy: 3, DesiredHealthy: 2},
	}
	change(b)
	return b
}

func TestTakeRefuses(t *testing.T) {
	said := func(reason, message string) []metav1.Condition {
		return []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: reason, Message: message}}
	}
	for _, tc := range []struct {
		name   string
		change func(*policyv1.PodDisruptionBudget)
		code   int32
		retry  int32
		want   string
		cause  string
	}{
		{"the keeper is behind", func(b *policyv1.PodDisruptionBudget) { b.Generation = 3 }, 429, 10, violation, "The disruption budget b is still being processed by the server."},
		{"negative", func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = -1 }, 403, 0,
			`poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative`,
			"The disruption budget b does not allow evicting pods currently: pdb disruptions allowed is negative"},
		{"too many pending", func(b *policyv1.PodDisruptionBudget) {
			b.Status.DisruptionsAllowed, b.Status.DisruptedPods = 1, map[string]metav1.Time{}
			for i := range maxPending + 1 {
				b.Status.DisruptedPods[fmt.Sprint(i)] = metav1.Time{}
			}
		}, 403, 0, `poddisruptionbudget.policy "b" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller`,
			"The disruption budget b does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"},
		{"too few healthy", func(b *policyv1.PodDisruptionBudget) { b.Status.CurrentHealthy = 2 }, 429, 0, violation, "The disruption budget b needs 2 healthy pods and has 2 currently"},
		{"the keeper failed", func(b *policyv1.PodDisruptionBudget) {
			b.Status.CurrentHealthy, b.Status.Conditions = 2, said(policyv1.SyncFailedReason, "found no controllers")
		}, 429, 0, violation, "The disruption budget b does not allow evicting pods currently because it failed sync: found no controllers"},
		{"for another reason", func(b *policyv1.PodDisruptionBudget) { b.Status.Conditions = said("Odd", "who knows") }, 429, 0, violation,
			"The disruption budget b does not allow evicting pods currently (Odd): who knows"},
		{"for no reason", func(*policyv1.PodDisruptionBudget) {}, 429, 0, violation, "The disruption budget b does not allow evicting pods currently"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := budgetWith(tc.change)
			before := b.DeepCopy()
			err := take(b, "p", metav1.NewTime(now))
			var status *apierrors.StatusError
			if !errors.As(err, &status) {
				t.Fatalf("got %v", err)
			}
			s := status.ErrStatus
			if s.Code != tc.code || s.Message != tc.want || s.Details.RetryAfterSeconds != tc.retry {
				t.Errorf("%d %q, retry after %d", s.Code, s.Message, s.Details.RetryAfterSeconds)
			}
			if causes := s.Details.Causes; len(causes) != 1 || causes[0].Type != policyv1.DisruptionBudgetCause || causes[0].Message != tc.cause {
				t.Errorf("causes are %v, want %s", causes, tc.cause)
			}
			if b.Status.DisruptionsAllowed != before.Status.DisruptionsAllowed || len(b.Status.DisruptedPods) != len(before.Status.DisruptedPods) {
				t.Errorf("a refusal took: %v", b.Status)
			}
		})
	}
}

func TestTake(t *testing.T) {
	b := budgetWith(func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = 2 })
	for i, name := range []string{"p", "q"} {
		if err := take(b, name, metav1.NewTime(now)); err != nil {
			t.Fatal(err)
		}
		if _, noted := b.Status.DisruptedPods[name]; !noted || b.Status.DisruptionsAllowed != int32(1-i) {
			t.Errorf("after %s: %v", name, b.Status)
		}
	}
	if c := b.Status.Conditions; len(c) != 1 || c[0].Status != metav1.ConditionFalse || c[0].Reason != policyv1.InsufficientPodsReason {
		t.Errorf("nothing is left, and the conditions say %v", c)
	}
}

func TestUnreadyMayGo(t *testing.T) {
	for _, tc := range []struct {
		policy           *policyv1.UnhealthyPodEvictionPolicyType
		healthy, desired int32
		want             bool
	}{
		{nil, 2, 2, true}, {nil, 1, 2, false}, {nil, 0, 0, false},
		{ptr.To(policyv1.IfHealthyBudget), 1, 2, false}, {ptr.To(policyv1.AlwaysAllow), 1, 2, true},
	} {
		b := budgetWith(func(b *policyv1.PodDisruptionBudget) {
			b.Spec.UnhealthyPodEvictionPolicy, b.Status.CurrentHealthy, b.Status.DesiredHealthy = tc.policy, tc.healthy, tc.desired
		})
		if got := unreadyMayGo(b); got != tc.want {
			t.Errorf("%v, %d of %d: %v", tc.policy, tc.healthy, tc.desired, got)
		}
	}
}
