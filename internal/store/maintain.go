package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/klog/v2"
)

const (
	// maintainEvery is how often the size of the database is checked.
	maintainEvery = 30 * time.Minute
	// defragMinBytes is the size below which defragmenting a database is never worthwhile.
	defragMinBytes = 64 << 20
)

// worthDefrag reports whether a database file is large and less than half in use.
func worthDefrag(size, inUse int64) bool {
	return size >= defragMinBytes && inUse < size/2
}

// maintain returns free pages of the database to the file system from time to time, and watches for an etcd
// that stops by itself. Compaction, which frees the pages, is triggered by the API server.
func (e *embedded) maintain(client *clientv3.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.done.Go(func() {
		defer close(e.failed)
		tick := time.NewTicker(maintainEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-e.etcd.Err():
				e.failed <- err
				return
			case <-tick.C:
				e.defragment(ctx, client)
			}
		}
	})
}

func (e *embedded) defragment(ctx context.Context, client *clientv3.Client) {
	endpoint := client.Endpoints()[0]
	status, err := client.Status(ctx, endpoint)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Failed to read the size of the store")
		return
	}
	if !worthDefrag(status.DbSize, status.DbSizeInUse) {
		return
	}
	if _, err := client.Defragment(ctx, endpoint); err != nil {
		klog.FromContext(ctx).Error(err, "Failed to defragment the store", "size", status.DbSize, "inUse", status.DbSizeInUse)
		return
	}
	klog.FromContext(ctx).Info("Defragmented the store", "sizeBefore", status.DbSize, "inUse", status.DbSizeInUse)
}
