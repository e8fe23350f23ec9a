// Package netpolicy enforces NetworkPolicies on the Pods of a node, with nftables. It follows the policies of the cluster; only
// when there is one does it follow Pods and Namespaces too, and have tables. What the tables must be follows from the objects
// by computation alone (state, tables); Enforcer follows the objects and writes what changed.
//
// The tables stay when the daemon ends: policies are in force without it. Where a CNI configuration serves the Pods' network,
// nothing is enforced here: CNI plugins bring their own enforcement, or none.
package netpolicy
