// Package election elects one leader among several processes: the holder of a lease.
//
// A leader renews its lease every RetryPeriod. If it cannot renew it for RenewDeadline, it stops leading. What
// it has under way must end before LeaseDuration is over, because then the other processes, which have seen the
// lease unchanged for that long, may take it. A leader that stops in good order releases the lease, so that
// another process can take over at once.
package election

import (
	"context"
	"fmt"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// Config configures an election.
type Config struct {
	Client kubernetes.Interface
	Clock  clock.Clock
	// Identity identifies this process among the candidates.
	Identity string
	// Namespace and Name name the lease.
	Namespace, Name string
	// LeaseDuration is how long candidates wait for a silent leader, RenewDeadline how long a leader tries to
	// renew its lease before it stops, and RetryPeriod the time between tries. Zero means 15 s, 10 s and 2 s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
}

// Margin returns how long work that a leader has under way may take after it stopped leading.
func (c *Config) Margin() time.Duration {
	c.complete()
	return (c.LeaseDuration - c.RenewDeadline) / 2
}

func (c *Config) complete() {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.LeaseDuration, 15 * time.Second}, {&c.RenewDeadline, 10 * time.Second}, {&c.RetryPeriod, 2 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
}

// Run calls lead whenever this process becomes the leader. The context passed to lead ends when the process
// loses the lease or ctx ends; lead must then return. Run returns when ctx has ended, or with the error of
// lead.
func Run(ctx context.Context, config Config, lead func(context.Context) error) error {
	config.complete()
	e := &elector{Config: config}
	for {
		if !e.acquire(ctx) {
			return nil
		}
		klog.FromContext(ctx).Info("Acquired the lease, leading", "lease", e.Name, "identity", e.Identity)
		lost, err := e.lead(ctx, lead)
		if e.lost = lost; !lost {
			e.release(ctx)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// elector is one process in the election.
type elector struct {
	Config
	// seen is the lease as it was when it last changed, seenAt is when this process observed that.
	seen   coordv1.LeaseSpec
	seenAt time.Time
	// renewed is when this process last renewed the lease.
	renewed time.Time
	// lost is set when this process could not renew the lease in time. What it asked for then may still be under
	// way in a slow server, so its own lease must run out like that of another.
	lost bool
}

// acquire tries to take the lease until it succeeds. It returns false if ctx ends first.
func (e *elector) acquire(ctx context.Context) bool {
	for {
		held, err := e.try(ctx)
		if held {
			return true
		}
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to acquire the lease, will retry", "lease", e.Name)
		}
		if !e.pause(ctx) {
			return false
		}
	}
}

// pause waits for the next try. It returns false if ctx ends first.
func (e *elector) pause(ctx context.Context) bool {
	t := e.Clock.NewTimer(e.RetryPeriod)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}

// lead runs lead and renews the lease in the background until one of the two ends. It reports whether the lease
// was lost.
func (e *elector) lead(ctx context.Context, lead func(context.Context) error) (lost bool, err error) {
	leading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- lead(leading) }()
	for {
		t := e.Clock.NewTimer(e.RetryPeriod)
		select {
		case err := <-ended:
			t.Stop()
			return false, err
		case <-t.C():
		}
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.RetryPeriod)
		held, err := e.try(try)
		cancel()
		if !held && (err == nil || e.Clock.Since(e.renewed) >= e.RenewDeadline) {
			klog.FromContext(ctx).Error(err, "Lost the lease, stopped leading", "lease", e.Name, "identity", e.Identity)
			stop()
			return true, <-ended
		}
	}
}

// try takes or renews the lease. It returns false and no error when another process holds it.
func (e *elector) try(ctx context.Context) (bool, error) {
	now := e.Clock.Now()
	leases := e.Client.CoordinationV1().Leases(e.Namespace)
	lease, err := leases.Get(ctx, e.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name}, Spec: e.spec(coordv1.LeaseSpec{}, now)}
		if _, err = leases.Create(ctx, lease, metav1.CreateOptions{}); err != nil {
			return false, fmt.Errorf("create lease %s/%s: %w", e.Namespace, e.Name, err)
		}
		e.renewed, e.lost = now, false
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	if !e.mayTake(lease.Spec, now, e.Clock.Now()) {
		return false, nil
	}
	lease.Spec = e.spec(lease.Spec, now)
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return false, fmt.Errorf("lease %s/%s was written by another process: %w", e.Namespace, e.Name, err)
	}
	if err != nil {
		return false, fmt.Errorf("write lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	e.renewed, e.lost = now, false
	return true, nil
}

// mayTake reports whether this process may take the lease: it holds it, nobody does, or the holder has been
// silent for too long. Silence is measured by this process's own clock: from when it had read the changed lease
// until it asked for the lease that is still the same.
func (e *elector) mayTake(s coordv1.LeaseSpec, asked, read time.Time) bool {
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || (*s.HolderIdentity == e.Identity && !e.lost) {
		return true
	}
	if e.seenAt.IsZero() || !same(e.seen, s) {
		e.seen, e.seenAt = s, read
	}
	length := e.LeaseDuration
	if s.LeaseDurationSeconds != nil {
		length = max(length, time.Duration(*s.LeaseDurationSeconds)*time.Second)
	}
	return asked.Sub(e.seenAt) > length
}

func same(a, b coordv1.LeaseSpec) bool {
	return a.RenewTime != nil && b.RenewTime != nil && a.RenewTime.Equal(b.RenewTime) && *a.HolderIdentity == *b.HolderIdentity
}

// spec returns the spec of the lease as held by this process.
func (e *elector) spec(before coordv1.LeaseSpec, now time.Time) coordv1.LeaseSpec {
	at, seconds := metav1.NewMicroTime(now), int32((e.LeaseDuration+time.Second-1)/time.Second)
	out := coordv1.LeaseSpec{HolderIdentity: &e.Identity, LeaseDurationSeconds: &seconds, RenewTime: &at, AcquireTime: before.AcquireTime, LeaseTransitions: before.LeaseTransitions}
	if before.HolderIdentity == nil || *before.HolderIdentity != e.Identity {
		transitions := int32(0)
		if before.LeaseTransitions != nil {
			transitions = *before.LeaseTransitions + 1
		}
		out.AcquireTime, out.LeaseTransitions = &at, &transitions
	}
	return out
}

// release gives up the lease if this process still holds it. It does so even after ctx ended.
func (e *elector) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.RetryPeriod)
	defer cancel()
	leases := e.Client.CoordinationV1().Leases(e.Namespace)
	lease, err := leases.Get(ctx, e.Name, metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != e.Identity {
		return // the others wait until it expires
	}
	lease.Spec.HolderIdentity = new(string)
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		klog.FromContext(ctx).Error(err, "Failed to release the lease, other candidates wait until it expires", "lease", e.Name)
	}
}
