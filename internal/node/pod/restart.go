package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// restartRule returns the first restart rule of the container that the exit code meets, nil for none.
func restartRule(c *v1.Container, code int32) *v1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		rule := &c.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, code)
		switch rule.ExitCodes.Operator {
		case v1.ContainerRestartRuleOnExitCodesOpIn:
			if listed {
				return rule
			}
		case v1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !listed {
				return rule
			}
		}
	}
	return nil
}

// restartsAll reports whether an exit of the container with the code restarts the whole Pod in place.
func restartsAll(c *v1.Container, code int32) bool {
	rule := restartRule(c, code)
	return rule != nil && rule.Action == v1.ContainerRestartRuleActionRestartAllContainers
}

// oomKilled is the reason of a container of which the kernel has killed a process for memory.
const oomKilled = "OOMKilled"

// failedEnd reports whether a container that ended so has failed. An init container that lost a process to the kernel
// has, whatever its code: what it was to prepare may be half done. So the kubelet decides about the next init
// container (isInitContainerFailed), but not about restart and phase, where such a Pod stays Pending for ever.
func failedEnd(p *v1.Pod, name, reason string, code int32) bool {
	return code != 0 || reason == oomKilled && initContainer(p, name) != nil
}

// restartsAfter reports whether the container is to be started again after an exit with the code, which was a
// failure or not: its own rules first, then its own policy, then the Pod's.
func restartsAfter(p *v1.Pod, c *v1.Container, code int32, failed bool) bool {
	if c.RestartPolicy != nil {
		if rule := restartRule(c, code); rule != nil {
			switch rule.Action {
			case v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers:
				return true
			}
		}
		switch *c.RestartPolicy {
		case v1.ContainerRestartPolicyAlways:
			return true
		case v1.ContainerRestartPolicyOnFailure:
			return failed
		case v1.ContainerRestartPolicyNever:
			return false
		}
	}
	switch p.Spec.RestartPolicy {
	case v1.RestartPolicyOnFailure:
		return failed
	case v1.RestartPolicyNever:
		return false
	}
	return true
}

// restartsWhenKilled reports whether a running container that the node kills for its health is to run again:
// rules on exit codes do not count then.
func restartsWhenKilled(p *v1.Pod, c *v1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return p.Spec.RestartPolicy != v1.RestartPolicyNever
}

// wanted reports whether the container, which does not run, is to be started: it never was, it was made but
// not started, it was lost, or it ended in a way that its policy restarts.
func wanted(p *v1.Pod, c *v1.Container, o *Observed) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	last := o.newest(c.Name)
	if last == nil {
		return true
	}
	switch last.State {
	case Running:
		return false
	case Exited:
		if k := o.ender(last); k != nil && k.Restart {
			return true
		}
		return restartsAfter(p, c, last.ExitCode, failedEnd(p, c.Name, last.Reason, last.ExitCode))
	}
	return true
}

// canRestartAll reports whether any container of the Pod may restart the whole of it.
func canRestartAll(p *v1.Pod) bool {
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, rule := range list[i].RestartPolicyRules {
				if rule.Action == v1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}

// restartingAll reports whether the whole Pod is being restarted in place: it was said to be, or a container
// has ended in a way that asks for it.
func restartingAll(p *v1.Pod, prev *v1.PodStatus, o *Observed) bool {
	if c := condition(prev.Conditions, v1.AllContainersRestarting); c != nil && c.Status == v1.ConditionTrue {
		return true
	}
	check := func(list []v1.Container, statuses []v1.ContainerStatus) bool {
		for i := range list {
			c := &list[i]
			last := o.newest(c.Name)
			if last == nil || last.State != Exited {
				continue
			}
			if restartsAll(c, last.ExitCode) {
				return true
			}
			if s := find(statuses, c.Name); s != nil && s.State.Terminated != nil && restartsAll(c, s.State.Terminated.ExitCode) {
				return true
			}
		}
		return false
	}
	return check(p.Spec.InitContainers, prev.InitContainerStatuses) || check(p.Spec.Containers, prev.ContainerStatuses)
}

// find returns the status of the named container, nil when there is none.
func find(list []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// condition returns the condition of the type, nil when there is none.
func condition(list []v1.PodCondition, t v1.PodConditionType) *v1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// Spec returns the container of the Pod of that name, of whatever kind, nil when there is none.
func Spec(p *v1.Pod, name string) *v1.Container {
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return &p.Spec.Containers[i]
		}
	}
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i]
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := &p.Spec.EphemeralContainers[i].EphemeralContainerCommon; c.Name == name {
			return (*v1.Container)(c)
		}
	}
	return nil
}
