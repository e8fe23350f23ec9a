package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

const (
	// tellAfter is how long a Pod waits for room before an event says so: mostly the others have left by then.
	tellAfter = 2 * time.Second
	// maxLeaving is how many of the Pods that hold the room the event names.
	maxLeaving = 3
)

// waitLocked is told that a Pod waits for room. Nothing of it is in the API yet, so its log has it at once, and an event
// after a while: `podium why` reads that.
func (m *Manager) waitLocked(p *v1.Pod) {
	klog.FromContext(m.ctx).V(2).Info("Pod waits for what ending pods still hold", "pod", klog.KObj(p), "podUID", p.UID)
	if m.cfg.Recorder == nil || m.timed[p.UID] {
		return
	}
	m.timed[p.UID] = true
	timer := m.cfg.Clock.NewTimer(tellAfter)
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			m.tellWait(p.UID)
		case <-m.ctx.Done():
		}
	}()
}

// tellWait records what a Pod waits for, if it still does. The next judgement of the Pod has it told again.
func (m *Manager) tellWait(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.timed, uid)
	i := slices.IndexFunc(m.held, func(in input) bool { return in.pod.UID == uid })
	names := m.leavingNamesLocked()
	if i < 0 || len(names) == 0 {
		return
	}
	p := m.held[i].pod
	message := "Waiting until pods that are ending on the node have given up what they hold: " + strings.Join(names, ", ")
	if v := m.roomLocked(everyWorker).admit(p); v != nil {
		message += ". " + v.Message
	}
	m.cfg.Recorder.Event(reference(p, nil), v1.EventTypeNormal, "WaitingForRoom", message)
}

// leavingNamesLocked names the Pods that are leaving and still take room, in order, and says how many more there are.
func (m *Manager) leavingNamesLocked() []string {
	var names []string
	for _, p := range m.takersLocked((*worker).leavingLocked) {
		names = append(names, p.Namespace+"/"+p.Name)
	}
	slices.Sort(names)
	if more := len(names) - maxLeaving; more > 0 {
		names = append(names[:maxLeaving], fmt.Sprintf("and %d more", more))
	}
	return names
}
