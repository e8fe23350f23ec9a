package why

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// ending returns what a Pod that is being deleted still waits for.
func ending(f *Facts) []Finding {
	pod := f.Pod
	if pod.DeletionTimestamp == nil {
		return nil
	}
	var out []Finding
	if c := podutil.Condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
		out = append(out, Finding{About: AboutDeletion, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)})
	}
	if len(pod.Finalizers) > 0 {
		out = append(out, Finding{
			About: AboutDeletion, Object: strings.Join(pod.Finalizers, ", "), Reason: "Finalizers",
			Message: "the Pod stays until its finalizers are removed by their owners: " + strings.Join(pod.Finalizers, ", "),
			Fix:     fmt.Sprintf(`let their owner finish, or remove them: kubectl patch pod %s -n %s --type=merge -p '{"metadata":{"finalizers":null}}'`, pod.Name, pod.Namespace),
		})
	}
	running := stillRunning(pod)
	if len(running) == 0 {
		return out
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		grace = *g
	}
	asked := metav1.NewTime(pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second))
	finding := Finding{
		About: AboutDeletion, Object: strings.Join(running, ", "), Reason: "Terminating", Since: &asked, Next: pod.DeletionTimestamp,
		Message: fmt.Sprintf("still running: %s; the grace period of %ds ends at %s, then they are killed", strings.Join(running, ", "), grace, pod.DeletionTimestamp.UTC().Format(time.TimeOnly)),
		Fix:     "make the program exit on SIGTERM (a shell as PID 1 ignores it), keep its preStop hook short, or set a shorter terminationGracePeriodSeconds",
	}
	if f.Now.After(pod.DeletionTimestamp.Time) {
		finding.Next = nil
		finding.Message = fmt.Sprintf("still running: %s, although the grace period of %ds is over", strings.Join(running, ", "), grace)
		finding.Fix = "the node does not report their end: check that it is ready; if its machine is gone for good: kubectl delete pod --force --grace-period=0"
	}
	return append(out, finding)
}

func stillRunning(pod *corev1.Pod) []string {
	var out []string
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.State.Running != nil {
				out = append(out, c.Name)
			}
		}
	}
	return out
}

// fixForFailure suggests fixes for a Pod that ended, by the reason in its status.
var fixForFailure = map[string]string{
	"Evicted":                  "set requests that cover its use (Pods above their requests are evicted first), or relieve the node",
	"Preempting":               "give it a higher priority, or make room on the node",
	"NodeAffinity":             "its node no longer has the labels that it requires: recreate it, so that the scheduler finds another node",
	"NodeShutdown":             "the machine was shut down: recreate it",
	"Terminated":               "the machine was shut down: recreate it",
	"DeadlineExceeded":         "raise activeDeadlineSeconds, or make it finish sooner",
	"UnexpectedAdmissionError": "the node refused it: recreate it, so that the scheduler finds another node",
}

// failed returns why a Pod failed.
func failed(f *Facts) []Finding {
	pod := f.Pod
	var out []Finding
	if pod.Status.Reason != "" || pod.Status.Message != "" {
		fix := fixForFailure[pod.Status.Reason]
		if fix == "" && strings.HasPrefix(pod.Status.Reason, "OutOf") {
			fix = "the node had less free than the Pod requests when it arrived: recreate it, so that the scheduler finds room"
		}
		out = append(out, Finding{About: AboutPod, Reason: pod.Status.Reason, Message: pod.Status.Message, Fix: fix})
	}
	if c := podutil.Condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue && c.Reason != pod.Status.Reason {
		out = append(out, Finding{About: AboutPod, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)})
	}
	return append(out, containers(f)...)
}
