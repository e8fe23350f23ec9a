package pod

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/kit"
)

// nodeLost is the reason in the status of a Pod whose node is not heard of any more.
const nodeLost = "NodeLost"

func table(clock clock.PassiveClock) *kit.Table[*corev1.Pod] {
	meta, podSpec, status := metav1.ObjectMeta{}.SwaggerDoc(), corev1.PodSpec{}.SwaggerDoc(), corev1.PodStatus{}.SwaggerDoc()
	return &kit.Table[*corev1.Pod]{
		Columns: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: meta["name"]},
			{Name: "Ready", Type: "string", Description: "The aggregate readiness state of this pod for accepting traffic."},
			{Name: "Status", Type: "string", Description: "The aggregate status of the containers in this pod."},
			{Name: "Restarts", Type: "string", Description: "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."},
			{Name: "Age", Type: "string", Description: meta["creationTimestamp"]},
			{Name: "IP", Type: "string", Priority: 1, Description: status["podIP"]},
			{Name: "Node", Type: "string", Priority: 1, Description: podSpec["nodeName"]},
			{Name: "Nominated Node", Type: "string", Priority: 1, Description: status["nominatedNodeName"]},
			{Name: "Readiness Gates", Type: "string", Priority: 1, Description: podSpec["readinessGates"]},
		},
		Row: func(pod *corev1.Pod) ([]any, []metav1.TableRowCondition) {
			return cells(pod, clock.Now()), completed(pod.Status.Phase)
		},
	}
}

// completed marks the row of a Pod that has ended, so that clients can leave it out.
func completed(phase corev1.PodPhase) []metav1.TableRowCondition {
	message := map[corev1.PodPhase]string{corev1.PodSucceeded: "The pod has completed successfully.", corev1.PodFailed: "The pod failed."}[phase]
	if message == "" {
		return nil
	}
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(phase), Message: message}}
}

func cells(pod *corev1.Pod, now time.Time) []any {
	s := summarize(pod)
	restarts := strconv.Itoa(s.restarts.count)
	if s.restarts.count != 0 && !s.restarts.last.IsZero() {
		restarts += fmt.Sprintf(" (%s ago)", duration.HumanDuration(now.Sub(s.restarts.last.Time)))
	}
	age := "<unknown>"
	if !pod.CreationTimestamp.IsZero() {
		age = duration.HumanDuration(now.Sub(pod.CreationTimestamp.Time))
	}
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name, fmt.Sprintf("%d/%d", s.ready, s.containers), s.status, restarts, age,
		orNone(ip), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), gates(pod),
	}
}

func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}

// gates says how many readiness gates are open.
func gates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if conditionTrue(&pod.Status, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}

// conditionTrue reports whether the first condition of a type is true.
func conditionTrue(s *corev1.PodStatus, kind corev1.PodConditionType) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return s.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// isReady reports whether some condition says that the Pod is ready.
func isReady(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// summary is a Pod in one line.
type summary struct {
	status            string
	ready, containers int
	restarts          restarts
}

// restarts counts how often containers were started again, and when the last one had ended before.
type restarts struct {
	count int
	last  metav1.Time
}

func (r *restarts) add(c *corev1.ContainerStatus) {
	r.count += int(c.RestartCount)
	if ended := c.LastTerminationState.Terminated; ended != nil && r.last.Before(&ended.FinishedAt) {
		r.last = ended.FinishedAt
	}
}

// summarize puts the states of a Pod's containers into one word. While the Pod initializes, its init
// containers have it; then its containers; and a deletion has the last word.
func summarize(pod *corev1.Pod) summary {
	s := summary{status: string(pod.Status.Phase), containers: len(pod.Spec.Containers)}
	if pod.Status.Reason != "" {
		s.status = pod.Status.Reason
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.status = corev1.PodReasonSchedulingGated
		}
	}
	sidecars := sidecarsOf(pod)
	s.containers += len(sidecars)
	initializing, ofSidecars := s.initContainers(pod, sidecars)
	if !initializing || conditionTrue(&pod.Status, corev1.PodInitialized) {
		// What init containers needed to succeed is forgotten; sidecars go on, and so does their count.
		s.restarts = ofSidecars
		s.mainContainers(pod)
	}
	ended := podutil.Ended(pod)
	switch {
	case pod.DeletionTimestamp == nil:
	case pod.Status.Reason == nodeLost:
		s.status = "Unknown"
	case !ended:
		s.status = "Terminating"
	}
	return s
}

func sidecarsOf(pod *corev1.Pod) map[string]bool {
	sidecars := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; podutil.IsSidecar(c) {
			sidecars[c.Name] = true
		}
	}
	return sidecars
}

// initialized reports whether an init container holds nothing back any more: it has ended well, or it is a
// sidecar that has started.
func initialized(c *corev1.ContainerStatus, sidecars map[string]bool) bool {
	if ended := c.State.Terminated; ended != nil && ended.ExitCode == 0 {
		// One that lost a process to the kernel has failed (node/pod, failedEnd), whatever its code.
		return ended.Reason != "OOMKilled" || sidecars[c.Name]
	}
	return sidecars[c.Name] && c.Started != nil && *c.Started
}

// initContainers looks at the init containers up to the one that is at work, which has the word. It reports
// whether there is one, and returns the restarts of the sidecars among them.
func (s *summary) initContainers(pod *corev1.Pod, sidecars map[string]bool) (working bool, ofSidecars restarts) {
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		s.restarts.add(c)
		if sidecars[c.Name] {
			ofSidecars.add(c)
		}
		if initialized(c, sidecars) {
			if ended := c.State.Terminated; (ended == nil || ended.ExitCode != 0) && c.Ready {
				s.ready++
			}
			continue
		}
		waiting := c.State.Waiting
		switch {
		case c.State.Terminated != nil:
			s.status = "Init:" + endOf(c.State.Terminated)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.status = "Init:" + waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true, ofSidecars
	}
	return false, ofSidecars
}

// endOf says how a container ended.
func endOf(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

// mainContainers looks at the containers from the last to the first; the first that waits or has ended has
// the word.
func (s *summary) mainContainers(pod *corev1.Pod) {
	running, failed := false, ""
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		s.restarts.add(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = endOf(c.State.Terminated)
			if c.State.Terminated.ExitCode != 0 {
				failed = s.status
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	// A container that has ended well says nothing about the Pod while others still run.
	if s.status != "Completed" {
		return
	}
	switch {
	case running && isReady(&pod.Status):
		s.status = "Running"
	case failed != "":
		s.status = failed
	case running:
		s.status = "NotReady"
	}
}
