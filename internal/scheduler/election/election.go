// Package election has one of several processes lead at a time: the one that holds a lease.
//
// A leader renews its lease every RetryPeriod. When it has not been able to for RenewDeadline it stops
// leading, and what it has under way must end within the time that is left until LeaseDuration, because then
// the others, who have seen the lease unchanged for that long, may take it. A leader that ends in good order
// gives the lease back, so that another can go on at once.
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

// Config says who is elected, and for what.
type Config struct {
	Client kubernetes.Interface
	Clock  clock.Clock
	// Identity tells this process from the others.
	Identity string
	// Namespace and Name are those of the lease.
	Namespace, Name string
	// LeaseDuration is how long a leader that has fallen silent is waited for, RenewDeadline how long a
	// leader tries to renew its lease before it stops, RetryPeriod the time between tries. Zero means 15 s,
	// 10 s and 2 s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
}

// Margin is how long what a leader has under way may take after it stopped leading.
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

// Run calls lead whenever this process is the leader. lead's context ends when it is not any more, or when
// ctx ends; lead must return then. Run returns when ctx has ended, or with lead's error.
func Run(ctx context.Context, config Config, lead func(context.Context) error) error {
	config.complete()
	e := &elector{Config: config}
	for {
		if !e.acquire(ctx) {
			return nil
		}
		klog.InfoS("Leading", "lease", e.Name, "identity", e.Identity)
		err := e.lead(ctx, lead)
		e.giveBack()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// elector is one process in the election.
type elector struct {
	Config
	// seen is the lease as it was last seen to change, and when.
	seen   coordv1.LeaseSpec
	seenAt time.Time
	// renewed is when the lease was last renewed by this process.
	renewed time.Time
}

// acquire tries to take the lease until it has it; it answers false when ctx ends before.
func (e *elector) acquire(ctx context.Context) bool {
	for {
		held, err := e.try(ctx)
		if held {
			return true
		}
		if err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not ask for the lease, will try again", "lease", e.Name)
		}
		if !e.pause(ctx) {
			return false
		}
	}
}

// pause waits for the next try; it answers false when ctx ends before.
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

// lead leads, and renews the lease beside, until one of the two ends.
func (e *elector) lead(ctx context.Context, lead func(context.Context) error) error {
	leading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- lead(leading) }()
	for {
		t := e.Clock.NewTimer(e.RetryPeriod)
		select {
		case err := <-ended:
			t.Stop()
			return err
		case <-t.C():
		}
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.RetryPeriod)
		held, err := e.try(try)
		cancel()
		if !held && (err == nil || e.Clock.Since(e.renewed) >= e.RenewDeadline) {
			klog.ErrorS(err, "Lost the lease; not leading any more", "lease", e.Name, "identity", e.Identity)
			stop()
			return <-ended
		}
	}
}

// try takes or renews the lease. It answers false without an error when another holds it.
func (e *elector) try(ctx context.Context) (bool, error) {
	now := e.Clock.Now()
	leases := e.Client.CoordinationV1().Leases(e.Namespace)
	lease, err := leases.Get(ctx, e.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name}, Spec: e.spec(coordv1.LeaseSpec{}, now)}
		if _, err = leases.Create(ctx, lease, metav1.CreateOptions{}); err != nil {
			return false, fmt.Errorf("create lease %s/%s: %w", e.Namespace, e.Name, err)
		}
		e.renewed = now
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	if !e.mayTake(lease.Spec, now) {
		return false, nil
	}
	lease.Spec = e.spec(lease.Spec, now)
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return false, fmt.Errorf("somebody else wrote lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	if err != nil {
		return false, fmt.Errorf("write lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	e.renewed = now
	return true, nil
}

// mayTake says whether the lease is this process's, nobody's, or its holder has been silent for too long. The
// silence is measured by this process's own clock, from when it saw the lease change.
func (e *elector) mayTake(s coordv1.LeaseSpec, now time.Time) bool {
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || *s.HolderIdentity == e.Identity {
		return true
	}
	if e.seenAt.IsZero() || !same(e.seen, s) {
		e.seen, e.seenAt = s, now
	}
	length := e.LeaseDuration
	if s.LeaseDurationSeconds != nil {
		length = max(length, time.Duration(*s.LeaseDurationSeconds)*time.Second)
	}
	return now.Sub(e.seenAt) > length
}

func same(a, b coordv1.LeaseSpec) bool {
	return a.RenewTime != nil && b.RenewTime != nil && a.RenewTime.Equal(b.RenewTime) && *a.HolderIdentity == *b.HolderIdentity
}

// spec is the lease when this process holds it.
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

// giveBack gives up the lease if it is still held.
func (e *elector) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), e.RetryPeriod)
	defer cancel()
	leases := e.Client.CoordinationV1().Leases(e.Namespace)
	lease, err := leases.Get(ctx, e.Name, metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != e.Identity {
		return // the others will wait until it runs out
	}
	lease.Spec.HolderIdentity = new(string)
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		klog.ErrorS(err, "Could not give the lease back; the others will wait until it runs out", "lease", e.Name)
	}
}
