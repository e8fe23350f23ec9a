package gc

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageRecord is what is known of an image.
type imageRecord struct {
	id   string
	size int64
	// detected is when it was first seen, lastUsed when a container that uses it was last seen, zero for never.
	detected, lastUsed time.Time
}

// update brings the records up to date with the images that are here and those that are used, and returns those
// that are neither used nor pinned, in the order in which they go: what was not used for longest first.
func update(records map[string]*imageRecord, images []*runtimeapi.Image, used map[string]bool, now time.Time) []imageRecord {
	here := make(map[string]bool, len(images))
	var idle []imageRecord
	for _, i := range images {
		here[i.Id] = true
		r := records[i.Id]
		if r == nil {
			r = &imageRecord{id: i.Id, detected: now}
			records[i.Id] = r
		}
		r.size = int64(i.Size)
		switch {
		case used[i.Id]:
			r.lastUsed = now
		case !i.Pinned:
			idle = append(idle, *r)
		}
	}
	for id := range records {
		if !here[id] {
			delete(records, id)
		}
	}
	slices.SortFunc(idle, func(a, b imageRecord) int {
		return cmp.Or(a.lastUsed.Compare(b.lastUsed), a.detected.Compare(b.detected), cmp.Compare(a.id, b.id))
	})
	return idle
}

// excess is how full in percent the disk is and, when that is too full, how many bytes have to be freed.
func (p Policy) excess(capacity, available uint64) (used int, bytes int64) {
	available = min(available, capacity)
	used = 100 - int(available*100/capacity)
	if used < p.High {
		return used, 0
	}
	return used, int64(capacity)*int64(100-p.Low)/100 - int64(available)
}

// ripe are the images that have been here for long enough to go.
func (p Policy) ripe(idle []imageRecord, now time.Time) (out []imageRecord) {
	for _, r := range idle {
		if now.Sub(r.detected) >= p.MinAge {
			out = append(out, r)
		}
	}
	return out
}

// size writes bytes for people.
func size(bytes uint64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	n, unit := float64(bytes)/1024, 0
	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}
