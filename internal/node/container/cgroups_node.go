package container

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/qos"
)

// Enforce bounds the cgroup of all Pods to capacity less what is reserved, nil for nothing. While the Pods have more
// memory than that on cgroup v1 it fails, and their memory is bounded as before; the rest is in force then too.
func (c *Cgroups) Enforce(capacity, reserved v1.ResourceList) error {
	res := c.translate(qos.ForNode(capacity, reserved))
	memory := res.Memory
	res.Memory = nil
	if err := c.tree.Ensure(treeRoot, res); err != nil {
		return fmt.Errorf("bound the cgroup of all Pods: %w", err)
	}
	if err := c.tree.Ensure(treeRoot, cgroup.Resources{Memory: memory}); err != nil {
		return fmt.Errorf("bound the memory of all Pods to %d bytes: %w", *memory, err)
	}
	return nil
}
