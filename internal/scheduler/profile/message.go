package profile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"podium.dev/podium/internal/scheduler/framework"
)

// Refusal explains why a Pod fits no node.
type Refusal struct {
	// Message is in Kubernetes' words: "0/3 nodes are available: 1 Insufficient memory, 2 …".
	Message string
	// Plugins are those that refused at least one node.
	Plugins []string
	// Nominated is the node on which room is being made for the Pod, "" if there is none.
	Nominated string
	// Clear is set if an earlier nomination no longer holds.
	Clear bool
}

// PostFilter runs the PostFilter plugin for a Pod that fits no node.
func (c *Cycle) PostFilter(ctx context.Context) framework.PostFilter {
	for _, f := range c.profile.postFilters {
		return f.PostFilter(ctx, c) // one is enough: the first either makes room or returns why it cannot
	}
	return framework.PostFilter{Clear: true}
}

// Refusal combines the results of the plugins. whole is the refusal of the cluster as a whole, or nil.
func (c *Cycle) Refusal(whole *framework.Status, post framework.PostFilter) Refusal {
	r := Refusal{Nominated: post.Nominated, Clear: post.Clear}
	if whole != nil {
		r.Message = fmt.Sprintf("0/%d nodes are available: %s.", len(c.snapshot.Nodes), whole.Message())
		r.Plugins = append(r.Plugins, c.blame(whole)...)
	} else {
		reasons := map[string]int{}
		for i, s := range c.refused {
			switch {
			case s != nil:
				for _, reason := range s.Reasons {
					reasons[reason]++
				}
				if !slices.Contains(r.Plugins, s.Plugin) {
					r.Plugins = append(r.Plugins, s.Plugin)
				}
			case c.only != nil && !c.only.Has(c.snapshot.Nodes[i].Node.Name):
				reasons["node(s) didn't satisfy plugin(s) "+bracketed(c.onlyBy)]++
			}
		}
		for _, name := range c.onlyBy {
			if !slices.Contains(r.Plugins, name) {
				r.Plugins = append(r.Plugins, name)
			}
		}
		r.Message = framework.NoneAvailable(len(c.snapshot.Nodes), reasons)
	}
	if post.Message != "" {
		r.Message += " " + post.Message
	}
	return r
}

func (c *Cycle) blame(whole *framework.Status) []string {
	if len(c.onlyBy) > 0 && c.only.Len() == 0 {
		return c.onlyBy
	}
	if whole.Plugin == "" {
		return nil
	}
	return []string{whole.Plugin}
}

// bracketed formats a list as Kubernetes' messages do.
func bracketed(names []string) string { return "[" + strings.Join(names, " ") + "]" }
