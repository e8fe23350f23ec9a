package why

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// containers returns the findings about each container.
func containers(f *Facts) []Finding {
	var out []Finding
	for i := range f.Pod.Status.InitContainerStatuses {
		out = append(out, f.container(&f.Pod.Status.InitContainerStatuses[i], true)...)
	}
	for i := range f.Pod.Status.ContainerStatuses {
		out = append(out, f.container(&f.Pod.Status.ContainerStatuses[i], false)...)
	}
	return out
}

func (f *Facts) container(c *corev1.ContainerStatus, init bool) []Finding {
	var out []Finding
	spec := specOf(f.Pod, c.Name)
	if oom := f.outOfMemory(c, spec); oom != nil {
		out = append(out, *oom)
	}
	switch s := c.State; {
	case s.Waiting != nil:
		if waiting := f.waiting(c); waiting != nil {
			out = append(out, *waiting)
		}
	case s.Terminated != nil:
		if !init || s.Terminated.ExitCode != 0 {
			out = append(out, f.ended(c)...)
		}
	case s.Running != nil && f.Pod.DeletionTimestamp == nil:
		switch {
		case init && !podutil.IsSidecar(spec):
			out = append(out, Finding{
				About: AboutContainer, Object: c.Name, Reason: "PodInitializing", Since: since(s.Running.StartedAt),
				Message: "this init container is running; the next one starts when it has succeeded",
				Fix:     fmt.Sprintf("see what it does: kubectl logs %s -n %s -c %s", f.Pod.Name, f.Pod.Namespace, c.Name),
			})
		case spec != nil:
			out = append(out, f.probed(c, spec)...)
		}
	}
	return out
}

func specOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// waiting returns why a container waits, or nil if it is only not its turn.
func (f *Facts) waiting(c *corev1.ContainerStatus) *Finding {
	w := c.State.Waiting
	switch w.Reason {
	case "ContainerCreating", "PodInitializing", "":
		return nil
	case "CrashLoopBackOff":
		return f.crashing(c)
	case "CreateContainerConfigError":
		return &Finding{About: AboutContainer, Object: c.Name, Reason: w.Reason, Message: w.Message, Fix: fixForConfig(w.Message)}
	case "CreateContainerError", "RunContainerError", "PostStartHookError":
		return &Finding{About: AboutContainer, Object: c.Name, Reason: w.Reason, Message: w.Message, Fix: fixForStart(w.Message)}
	}
	if fix, ok := fixForImage(c.Image, w.Reason, w.Message); ok {
		return &Finding{About: AboutImage, Object: c.Name, Reason: w.Reason, Message: w.Message, Fix: fix}
	}
	return &Finding{About: AboutContainer, Object: c.Name, Reason: w.Reason, Message: w.Message}
}

// fixForConfig suggests a fix for a container whose configuration cannot be built.
func fixForConfig(message string) string {
	switch {
	case strings.Contains(message, "runAsNonRoot"), strings.Contains(message, "non-numeric user"):
		return "give securityContext.runAsUser a number other than 0, or remove runAsNonRoot"
	case strings.Contains(message, "couldn't find key"):
		return "add the key to the object, or correct it in the Pod; the container then starts by itself"
	case strings.Contains(message, "not found"):
		return "create the object, or correct its name in the Pod; the container then starts by itself"
	}
	return "correct what the message names; the container then starts by itself"
}

// fixForStart suggests a fix for a container that cannot be started.
func fixForStart(message string) string {
	switch {
	case strings.Contains(message, "executable file not found"), strings.Contains(message, "no such file or directory"):
		return "the image has no such program: correct command, or the path of a mounted file"
	case strings.Contains(message, "permission denied"):
		return "the program or the folder is not executable for the container's user: correct command, runAsUser or the file's mode"
	case strings.Contains(message, "exec format error"):
		return "the program is for another architecture, or is a script without #!: use an image for this machine"
	}
	return ""
}

// backOff extracts the length of a back-off from its message.
var backOff = regexp.MustCompile(`back-off ([0-9hms.]+) restarting`)

// crashing describes how a container that keeps being restarted ends, and when it is restarted next.
func (f *Facts) crashing(c *corev1.ContainerStatus) *Finding {
	out := &Finding{About: AboutContainer, Object: c.Name, Reason: "CrashLoopBackOff", Message: c.State.Waiting.Message}
	last := c.LastTerminationState.Terminated
	if last == nil {
		last = c.State.Terminated
	}
	if last == nil {
		return out
	}
	out.Since = since(last.FinishedAt)
	out.Message = fmt.Sprintf("it ended %s and was restarted %s; it ran for %s", exitOf(last), plural(int(c.RestartCount), "time", "times"), lasted(last))
	if last.Message != "" && last.Reason != oomKilled {
		out.Message += "; its termination message: " + strings.TrimSpace(last.Message)
	}
	if m := backOff.FindStringSubmatch(c.State.Waiting.Message); m != nil {
		if d, err := time.ParseDuration(m[1]); err == nil {
			next := metav1.NewTime(last.FinishedAt.Add(d))
			out.Next = &next
			out.Message += fmt.Sprintf("; the back-off is %s", d)
		}
	}
	if last.Reason != oomKilled { // reported as a finding of its own
		out.Fix = fmt.Sprintf("%s kubectl logs %s -n %s -c %s --previous", fixForExit(last), f.Pod.Name, f.Pod.Namespace, c.Name)
	}
	return out
}

// ended describes the end of a container that is not restarted.
func (f *Facts) ended(c *corev1.ContainerStatus) []Finding {
	t := c.State.Terminated
	if t.ExitCode == 0 || t.Reason == oomKilled {
		return nil // expected, or already reported
	}
	out := Finding{
		About: AboutContainer, Object: c.Name, Reason: t.Reason, Since: since(t.FinishedAt),
		Message: fmt.Sprintf("it ended %s; it ran for %s", exitOf(t), lasted(t)),
		Fix:     fmt.Sprintf("%s kubectl logs %s -n %s -c %s", fixForExit(t), f.Pod.Name, f.Pod.Namespace, c.Name),
	}
	if t.Message != "" {
		out.Message += "; its termination message: " + strings.TrimSpace(t.Message)
	}
	return []Finding{out}
}

func lasted(t *corev1.ContainerStateTerminated) time.Duration {
	if t.StartedAt.IsZero() {
		return 0
	}
	return t.FinishedAt.Sub(t.StartedAt.Time).Round(time.Second)
}

// exitOf describes an exit code.
func exitOf(t *corev1.ContainerStateTerminated) string {
	words := ""
	switch {
	case t.Reason == oomKilled:
		words = " (out of memory)"
	case t.ExitCode == 0:
		words = " (success)"
	case t.ExitCode == 126:
		words = " (by convention of the shell: the program is not executable)"
	case t.ExitCode == 127:
		words = " (by convention of the shell: the program was not found)"
	case t.ExitCode == 137:
		words = " (SIGKILL)"
	case t.ExitCode == 139:
		words = " (SIGSEGV)"
	case t.ExitCode == 143:
		words = " (SIGTERM)"
	case t.ExitCode > 128 && t.ExitCode < 128+65:
		words = fmt.Sprintf(" (signal %d)", t.ExitCode-128)
	}
	return fmt.Sprintf("with exit code %d%s", t.ExitCode, words)
}

func fixForExit(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.ExitCode == 0:
		return "its program exits successfully and its restartPolicy restarts it: keep the program running, or set restartPolicy to OnFailure or Never; see"
	case t.ExitCode == 126 || t.ExitCode == 127:
		return "correct its command; see"
	}
	return "its log has the reason:"
}

const oomKilled = "OOMKilled"

// outOfMemory returns a finding if the container was killed for its memory use, with the limit that applied,
// and nil otherwise.
func (f *Facts) outOfMemory(c *corev1.ContainerStatus, spec *corev1.Container) *Finding {
	t := c.State.Terminated
	if t == nil || t.Reason != oomKilled {
		t = c.LastTerminationState.Terminated
	}
	if t == nil || t.Reason != oomKilled {
		return nil
	}
	out := &Finding{About: AboutLimit, Object: c.Name, Reason: oomKilled, Since: since(t.FinishedAt)}
	limit := memoryLimit(c, spec)
	switch {
	case limit != "":
		out.Message = fmt.Sprintf("the kernel killed it at its memory limit of %s, after %s", limit, lasted(t))
		out.Fix = fmt.Sprintf("raise resources.limits.memory above %s, or make the program use less", limit)
	case f.Pod.Spec.Resources != nil && !f.Pod.Spec.Resources.Limits.Memory().IsZero():
		limit = f.Pod.Spec.Resources.Limits.Memory().String()
		out.Message = fmt.Sprintf("the kernel killed it at the Pod's memory limit of %s, after %s", limit, lasted(t))
		out.Fix = fmt.Sprintf("raise the Pod's resources.limits.memory above %s, or make its containers use less", limit)
	default:
		out.Message = fmt.Sprintf("the kernel killed it because the node had no memory left, after %s; it has no limit of its own", lasted(t))
		out.Fix = "set a memory request that covers its use, so that it is scheduled where there is room"
	}
	if t.Message != "" {
		out.Message += "; " + strings.TrimSpace(t.Message)
	}
	return out
}

// memoryLimit returns the limit that applies to the container: the one that the node has set, or else the one
// in its spec.
func memoryLimit(c *corev1.ContainerStatus, spec *corev1.Container) string {
	if c.Resources != nil && !c.Resources.Limits.Memory().IsZero() {
		return c.Resources.Limits.Memory().String()
	}
	if spec != nil && !spec.Resources.Limits.Memory().IsZero() {
		return spec.Resources.Limits.Memory().String()
	}
	return ""
}
