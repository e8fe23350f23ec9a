package why

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ending says what a Pod that is being deleted still waits for.
func ending(f *Facts) []Finding {
	pod := f.Pod
	if pod.DeletionTimestamp == nil {
		return nil
	}
	var out []Finding
	if c := condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
		out = append(out, Finding{About: AboutDeletion, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)})
	}
	if len(pod.Finalizers) > 0 {
		out = append(out, Finding{
			About: AboutDeletion, Object: strings.Join(pod.Finalizers, ", "), Reason: "Finalizers",
			Message: "the Pod stays until its finalizers are taken off by whoever set them: " + strings.Join(pod.Finalizers, ", "),
			Mend:    fmt.Sprintf(`have their owner finish, or take them off: kubectl patch pod %s -n %s --type=merge -p '{"metadata":{"finalizers":null}}'`, pod.Name, pod.Namespace),
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
		Message: fmt.Sprintf("running still: %s; the grace period of %ds ends at %s, then they are killed", strings.Join(running, ", "), grace, pod.DeletionTimestamp.UTC().Format(time.TimeOnly)),
		Mend:    "have the program end on SIGTERM (a shell as PID 1 ignores it) and its preStop hook be short, or give a shorter terminationGracePeriodSeconds",
	}
	if f.Now.After(pod.DeletionTimestamp.Time) {
		finding.Next = nil
		finding.Message = fmt.Sprintf("running still: %s, although the grace period of %ds is over", strings.Join(running, ", "), grace)
		finding.Mend = "the node does not report their end: see whether it is ready; when its machine is gone for good: kubectl delete pod --force --grace-period=0"
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

// mendOfFailure says what helps against a Pod's end by the reason in its status.
var mendOfFailure = map[string]string{
	"Evicted":                  "give it requests that cover what it uses (the Pods above their requests go first), or relieve the node",
	"Preempting":               "give it a higher priority, or the node more room",
	"NodeAffinity":             "its node has not the labels that it asks for any more: make it again, so that the scheduler finds another",
	"NodeShutdown":             "the machine was shut down: make it again",
	"Terminated":               "the machine was shut down: make it again",
	"DeadlineExceeded":         "raise activeDeadlineSeconds, or have it finish sooner",
	"UnexpectedAdmissionError": "the node refused it: make it again, so that the scheduler finds another",
}

// failed says why a Pod ended without success.
func failed(f *Facts) []Finding {
	pod := f.Pod
	var out []Finding
	if pod.Status.Reason != "" || pod.Status.Message != "" {
		mend := mendOfFailure[pod.Status.Reason]
		if mend == "" && strings.HasPrefix(pod.Status.Reason, "OutOf") {
			mend = "the node had less left than was asked for when it came: make it again, so that the scheduler finds room"
		}
		out = append(out, Finding{About: AboutPod, Reason: pod.Status.Reason, Message: pod.Status.Message, Mend: mend})
	}
	if c := condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue && c.Reason != pod.Status.Reason {
		out = append(out, Finding{About: AboutPod, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)})
	}
	return append(out, containers(f)...)
}
