package profile

import "podium.dev/podium/internal/scheduler/framework"

// Explain returns what keeps the Pod off a node. It runs every filter, not only up to the first refusal.
func (c *Cycle) Explain(node *framework.NodeInfo) []framework.Detail {
	var out []framework.Detail
	for i := range c.profile.filters {
		f := &c.profile.filters[i]
		var state framework.State
		if f.pre >= 0 {
			if c.skip[f.pre] {
				continue
			}
			state = c.states[f.pre]
		}
		status := f.Filter(state, c.pod, node)
		if status == nil {
			continue
		}
		if e, ok := f.Filterer.(framework.Explainer); ok {
			out = append(out, e.Explain(state, c.pod, node)...)
			continue
		}
		out = append(out, framework.Detail{Plugin: status.Plugin, Reason: status.Message(), Text: status.Message()})
	}
	if len(out) > 0 {
		return out
	}
	if status := c.Fits(node); status != nil {
		for _, p := range c.promised(node.Node.Name) {
			out = append(out, framework.Detail{
				Plugin: status.Plugin, Reason: status.Message(),
				Text: "the room is promised to pod " + p.Name().String() + ", for which other pods were preempted",
			})
		}
	}
	return out
}
