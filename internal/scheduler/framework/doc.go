// Package framework holds what the parts of the scheduler share: Pods and nodes in the form that decisions use,
// the results of plugins, events of the cluster, and the interfaces that plugins implement.
//
// Everything that can be known about a Pod or a node before a decision is computed once, when the object is
// seen, so that a decision over thousands of nodes consists of additions and comparisons.
package framework
