// Package stats tells what the node and its Pods use, in the terms of the kubelet's summary: what is told is measured
// when somebody asks. Files are counted again only after a while, for that takes time and disk.
package stats
