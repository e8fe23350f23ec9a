package framework

import "time"

// Waiting is a Pod in the queue, as a QueueSorter sees it.
type Waiting struct {
	Pod *PodInfo
	// Since is when the Pod began to wait, or when it was last refused.
	Since time.Time
}
