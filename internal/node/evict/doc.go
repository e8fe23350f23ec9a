// Package evict keeps the node from running short of memory, disk, inodes and process IDs: it says that the node is
// under pressure, frees what nobody uses and then ends Pods, one at a time, in the kubelet's order and words. It
// also ends Pods that keep more on disk than they may.
//
// What is decided is decided by pure functions:
//
//	threshold.go  what the settings say is too little
//	state.go      which thresholds are met by now, and which conditions the node has
//	rank.go       which Pod goes first
//	limits.go     which Pods keep too much on disk
//	message.go    what is said of it
//	admit.go      which new Pods a node under pressure takes
//
// manager.go is the loop around them: the one part of the node that looks at something though nobody asked, every ten
// seconds and whenever the kernel says that memory is short (watch.go).
package evict
