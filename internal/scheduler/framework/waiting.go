package framework

import "time"

// Waiting is a Pod in a queue, as a QueueSorter sees it.
type Waiting struct {
	Pod *PodInfo
	// Since is when the Pod began to wait, or was last found to have no place.
	Since time.Time
}
