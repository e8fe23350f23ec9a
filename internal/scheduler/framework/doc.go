// Package framework holds what the parts of the scheduler share: Pods and nodes in the form in which
// decisions are made on them, the answers of plugins, the events of the cluster, and the interfaces by which
// a plugin takes part.
//
// Everything that can be known of a Pod or a node before a decision is computed once, when it is seen, so
// that a decision over thousands of nodes is additions and comparisons.
package framework
