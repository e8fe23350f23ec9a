package service

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/storage"

	"podium.dev/podium/internal/registry/kit"
)

// The range of node ports. The first chosenPorts of them are kept for services that request a particular one,
// as long as there are others (KEP-3668).
const (
	firstNodePort = int32(30000)
	lastNodePort  = int32(32767)
	nodePortCount = lastNodePort - firstNodePort + 1
	chosenPorts   = nodePortCount / 32
)

// portsKey is the key under which the bitmap of allocated node ports is stored.
const portsKey = "/ranges/servicenodeports"

// nodePortRange allocates node ports for the whole cluster, with one bitmap in the store.
type nodePortRange struct {
	store storage.Interface
}

func newNodePortRange(env kit.Env) (*nodePortRange, error) {
	resource := schema.GroupResource{Resource: "servicenodeportallocations"}
	options, err := env.Options.GetRESTOptions(resource, &corev1.RangeAllocation{})
	if err != nil {
		return nil, fmt.Errorf("find the storage of the allocated node ports: %w", err)
	}
	newBits := func() runtime.Object { return &corev1.RangeAllocation{} }
	store, _, err := options.Decorator(options.StorageConfig, portsKey, nil, newBits, newBits, nil, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("create the store of the allocated node ports: %w", err)
	}
	return &nodePortRange{store: store}, nil
}

// change lets f allocate and release ports, and stores the result. f may run several times. Nothing is stored
// if f fails or for a dry run.
func (r *nodePortRange) change(ctx context.Context, dry bool, f func(*ports) error) error {
	if dry {
		bits := &corev1.RangeAllocation{}
		if err := r.store.Get(ctx, portsKey, storage.GetOptions{IgnoreNotFound: true}, bits); err != nil {
			return fmt.Errorf("read the node ports in use: %w", err)
		}
		return f(unpack(bits))
	}
	return r.update(ctx, f)
}

func (r *nodePortRange) update(ctx context.Context, f func(*ports) error) error {
	return r.store.GuaranteedUpdate(ctx, portsKey, &corev1.RangeAllocation{}, true, nil,
		storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			bits := obj.(*corev1.RangeAllocation)
			p := unpack(bits)
			if err := f(p); err != nil {
				return nil, err
			}
			p.pack(bits)
			return bits, nil
		}), nil)
}

// release releases ports.
func (r *nodePortRange) release(ctx context.Context, list []int32) error {
	err := r.change(ctx, false, func(p *ports) error {
		for _, port := range list {
			p.free(port)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release node ports %v: %w", list, err)
	}
	return nil
}

// set makes the bitmap mark exactly these ports.
func (r *nodePortRange) set(ctx context.Context, used sets.Set[int32]) error {
	return r.update(ctx, func(p *ports) error {
		p.used = new(big.Int)
		for port := range used {
			if inRange(port) {
				p.set(port, 1)
			}
		}
		return nil
	})
}

// ports are the allocated node ports at one moment, and those allocated since.
type ports struct {
	used  *big.Int // bit n is firstNodePort+n
	fresh []int32
}

func unpack(bits *corev1.RangeAllocation) *ports {
	return &ports{used: new(big.Int).SetBytes(bits.Data)}
}

func (p *ports) pack(bits *corev1.RangeAllocation) {
	bits.Range = fmt.Sprintf("%d-%d", firstNodePort, lastNodePort)
	bits.Data = p.used.Bytes()
}

func (p *ports) set(port int32, bit uint) { p.used.SetBit(p.used, int(port-firstNodePort), bit) }

func (p *ports) free(port int32) {
	if inRange(port) {
		p.set(port, 0)
	}
}

func inRange(port int32) bool { return port >= firstNodePort && port <= lastNodePort }

// take allocates a particular port.
func (p *ports) take(port int32) error {
	if !inRange(port) {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", firstNodePort, lastNodePort)
	}
	if p.used.Bit(int(port-firstNodePort)) == 1 {
		return fmt.Errorf("provided port is already allocated")
	}
	p.set(port, 1)
	p.fresh = append(p.fresh, port)
	return nil
}

// takeAny allocates the next free port from a random one on. The part that is kept for requested ports comes
// last.
func (p *ports) takeAny() (int32, error) {
	for _, part := range [][2]int32{{chosenPorts, nodePortCount}, {0, chosenPorts}} {
		length := part[1] - part[0]
		start := rand.Int32N(length)
		for i := range length {
			port := firstNodePort + part[0] + (start+i)%length
			if p.take(port) == nil {
				return port, nil
			}
		}
	}
	return 0, fmt.Errorf("range is full")
}
