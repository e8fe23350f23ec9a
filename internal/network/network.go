package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/nft"
	"podium.dev/podium/internal/paths"
)

// Network is the network of one node's Pods. Its methods may be called from many goroutines; calls for one sandbox
// are done one after the other.
type Network struct {
	cfg     Config
	ledger  *ledger
	builtin *builtin
	cni     *cni
	locks   keyedLocks
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// New opens the node's network: it reads the leases and, unless a CNI configuration is there, makes the bridge and
// the rules, so that a machine on which that is impossible is known at once. It watches for a CNI configuration to
// come and for its rules to be flushed, until Close or Remove.
func New(cfg Config) (*Network, error) {
	l, err := openLedger(ledgerPath(cfg.Paths))
	if err != nil {
		return nil, err
	}
	b, err := newBuiltin(cfg, l)
	if err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, ledger: l, builtin: b, cni: newCNI(cfg.Paths)}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	if err := n.start(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Network) start(ctx context.Context) error {
	changed, err := n.cni.watch(ctx, &n.stopped)
	if err != nil {
		return err
	}
	if err := n.arrange(); err != nil {
		return err
	}
	if drops, err := foreignDrops(); err == nil && len(drops) > 0 && n.builtin.bridgeIndex() != 0 {
		klog.FromContext(ctx).Info("A firewall drops forwarded packets by default; Pods reach nothing outside the node until it accepts what comes in and goes out by the bridge",
			"chains", drops, "bridge", n.builtin.bridge.name)
	}
	flushed, err := nft.Watch(ctx, n.cfg.Paths.ID, &n.stopped)
	if err != nil {
		return err
	}
	n.stopped.Add(1)
	go func() {
		defer n.stopped.Done()
		n.follow(ctx, changed, flushed)
	}()
	return nil
}

// Close ends the watches and leaves all that Pods use in place.
func (n *Network) Close() {
	n.stop()
	n.stopped.Wait()
	n.builtin.h.Close()
	n.ledger.close()
}

// Bridge is the name of the link by which the Pods send; "" while CNI serves them.
func (n *Network) Bridge() string {
	if n.builtin.bridgeIndex() == 0 {
		return ""
	}
	return n.builtin.bridge.name
}

// ListenOn adds to the ports that the node itself listens on: from now on no host port of a Pod takes them.
func (n *Network) ListenOn(own ...OwnPort) error {
	n.builtin.addOwn(own)
	return n.arrange()
}

// Ready says why no Pod can be given a network now, nil when it can.
func (n *Network) Ready() error {
	if list, err := n.cni.current(); err != nil {
		return err
	} else if list != nil {
		return n.cni.status(context.Background(), list)
	}
	return n.builtin.ensure(false)
}

// Setup gives a sandbox its network. It may be called again for one that has it: the answer is the same, and host
// ports and bandwidth become what the request now says. A set-up that fails leaves nothing behind.
func (n *Network) Setup(ctx context.Context, req Request) (Result, error) {
	if err := validID(req.ID); err != nil {
		return Result{}, err
	}
	if sameAsOurs(req.NetNSPath) {
		return Result{}, fmt.Errorf("set up the network of sandbox %s: %s is the node's own network namespace", req.ID, req.NetNSPath)
	}
	defer n.locks.lock(req.ID)()
	old := n.ledger.get(req.ID)
	rec, err := n.setup(ctx, req, old)
	if err == nil {
		return Result{IPs: rec.IPs}, nil
	}
	err = fmt.Errorf("set up the network of sandbox %s: %w", req.ID, err)
	if old == nil && rec != nil {
		err = errors.Join(err, n.undo(context.WithoutCancel(ctx), rec, req.NetNSPath))
	}
	return Result{}, err
}

func (n *Network) setup(ctx context.Context, req Request, old *record) (*record, error) {
	list, err := n.cni.current()
	switch {
	case old != nil && old.CNI == "" && len(old.IPs) > 0:
		return n.builtin.setup(ctx, req, old)
	case err != nil:
		return nil, err
	case list != nil:
		return n.cni.setup(ctx, n.ledger, list, req, old)
	}
	return n.builtin.setup(ctx, req, old)
}

// Teardown takes a sandbox's network away and sets its addresses free. It may be called again, for a sandbox never set
// up, and for one whose network namespace is gone. What fails is tried again by the next call.
func (n *Network) Teardown(ctx context.Context, id, netNSPath string) error {
	if err := validID(id); err != nil {
		return err
	}
	defer n.locks.lock(id)()
	rec := n.ledger.get(id)
	if rec == nil {
		rec = &record{ID: id}
	}
	return n.undo(ctx, rec, netNSPath)
}

func (n *Network) undo(ctx context.Context, rec *record, netNSPath string) error {
	var err error
	if rec.CNI != "" {
		err = n.cni.teardown(ctx, rec, netNSPath)
	} else {
		err = n.builtin.teardown(rec)
	}
	if err == nil {
		err = n.ledger.drop(rec.ID)
	}
	if err != nil {
		return fmt.Errorf("tear down the network of sandbox %s: %w", rec.ID, err)
	}
	return nil
}

// Retain drops what an earlier run of the daemon left for sandboxes that are no longer: all but liveIDs and those set
// up by this run.
func (n *Network) Retain(ctx context.Context, liveIDs []string) error {
	live := make(map[string]bool, len(liveIDs))
	for _, id := range liveIDs {
		live[id] = true
	}
	var errs []error
	for _, r := range n.ledger.all() {
		if live[r.ID] || r.done {
			continue
		}
		path := r.NetNS
		if _, err := os.Stat(path); err != nil {
			path = ""
		}
		errs = append(errs, n.Teardown(ctx, r.ID, path))
	}
	errs = append(errs, n.builtin.strays())
	if list, err := n.cni.current(); err == nil && list != nil {
		errs = append(errs, n.cni.collect(ctx, list, n.ledger.all()))
	}
	return errors.Join(errs...)
}

// Remove ends the network and takes all of it away from the machine, as the function Remove does.
func (n *Network) Remove(ctx context.Context) error {
	n.Close()
	return Remove(ctx, n.cfg.Paths)
}

// Remove takes away from the machine all that the network of the node with these places made: the Pods' links, the
// bridge, the nftables tables and the leases, with or without a running daemon. What other programs may have come to
// rely on stays: forwarding between links remains on.
func Remove(ctx context.Context, p paths.Paths) error {
	l, err := openLedger(ledgerPath(p))
	if err != nil {
		return err
	}
	defer l.close()
	b, err := newBuiltin(Config{Paths: p}, l)
	if err != nil {
		return err
	}
	defer b.h.Close()
	c := newCNI(p)
	var errs []error
	for _, r := range l.all() {
		if r.CNI != "" {
			path := r.NetNS
			if _, err := os.Stat(path); err != nil {
				path = ""
			}
			errs = append(errs, c.teardown(ctx, r, path))
			continue
		}
		errs = append(errs, delLink(hostLink(r.ID)))
	}
	if link, err := b.h.LinkByName(b.bridge.name); err == nil && link.Type() == "bridge" {
		b.index = link.Attrs().Index
		errs = append(errs, b.strays(), delLink(b.bridge.name))
	} else if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		errs = append(errs, fmt.Errorf("look for the bridge %s: %w", b.bridge.name, err))
	}
	errs = append(errs, nft.Remove(p.ID))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(p.Network); err != nil {
		return fmt.Errorf("remove the network's leases: %w", err)
	}
	return nil
}

// keyedLocks is a lock a key, there as long as somebody holds or awaits it.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock locks a key and returns what unlocks it.
func (k *keyedLocks) lock(key string) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
}
