package store

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// quotaBytes is the database size at which etcd rejects writes.
	quotaBytes = 8 << 30
	// bootDefragMegabytes is how much a defragmentation at start must free to be worth the wait.
	bootDefragMegabytes = 256
	// progressInterval is how often watches without changes are told the store's current revision. It must be
	// well below the age at which the API server compacts old revisions, or such a watch could not resume.
	progressInterval = time.Minute
	// standInterval is how often the only member is told to become leader until it is.
	standInterval = 2 * time.Millisecond
	// electionMillis is the time after which a member that does not lead stands for election by itself, which
	// lead below makes unnecessary. It is long because raft must not look through the entries of an earlier run
	// before it has recorded that they are applied: etcd 3.7 drops the first of them as soon as it has applied a
	// hundred, and raft panics at the gap if a timeout of one second makes it look on a busy machine.
	electionMillis = 10_000
	// commitInterval is how long writes, which are already safe in the log, wait for the database's commit.
	commitInterval = 500 * time.Millisecond
)

// embedded is the etcd in this process.
type embedded struct {
	etcd   *embed.Etcd
	socket string
	failed chan error

	stop context.CancelFunc
	done sync.WaitGroup
}

func startEmbedded(ctx context.Context, dir, socket string) (*embedded, error) {
	for _, d := range []string{dir, filepath.Dir(socket)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("create the store's folder: %w; check the permissions of the root", err)
		}
	}
	// A socket left by a daemon that was killed would make the listener fail. The caller guarantees one daemon
	// per root, so nothing listens on it.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket of the store: %w", err)
	}
	etcd, err := embed.StartEtcd(embeddedConfig(dir, socket))
	if err != nil {
		return nil, fmt.Errorf("start the embedded etcd in %s: %w; if its files are damaged, restore a copy of the folder", dir, err)
	}
	e := &embedded{etcd: etcd, socket: socket, failed: make(chan error, 1)}
	if err := e.lead(ctx); err != nil {
		e.etcd.Close()
		return nil, fmt.Errorf("start the embedded etcd in %s: %w", dir, err)
	}
	return e, nil
}

// pause waits for the next beat. It returns an error if etcd or ctx ended.
func (e *embedded) pause(ctx context.Context, beat <-chan time.Time) error {
	select {
	case <-beat:
		return nil
	case err := <-e.etcd.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func embeddedConfig(dir, socket string) *embed.Config {
	client := url.URL{Scheme: "unix", Path: socket}
	cfg := embed.NewConfig()
	cfg.Name = "podium"
	cfg.Dir = dir
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	// There are no peers, so there is no peer listener. The advertised peer address is only the member's
	// identity in its own single-member cluster.
	cfg.ListenPeerUrls = nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ElectionMs = electionMillis
	cfg.InitialElectionTickAdvance = false // it would use up the time at once
	cfg.QuotaBackendBytes = quotaBytes
	cfg.BootstrapDefragThresholdMegabytes = bootDefragMegabytes
	cfg.BackendBatchInterval = commitInterval
	cfg.EnableGRPCGateway = false
	cfg.WatchProgressNotifyInterval = progressInterval
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newLogCore(zapcore.WarnLevel)))
	return cfg
}

// lead makes the only member the leader at once and returns when it serves. On its own it would stand for
// election only after a random time of up to two election timeouts. raft's message for a leadership transfer
// (MsgTimeoutNow) makes it stand now. It is sent only after raft has recorded that every previously committed
// entry is applied: before that, raft would look through those entries, and it panics if etcd has already
// applied and dropped the first of them.
func (e *embedded) lead(ctx context.Context) error {
	server := e.etcd.Server
	self := uint64(server.MemberID())
	again := time.NewTicker(standInterval)
	defer again.Stop()
	applied := uint64(0)
	for server.Leader() == 0 && len(server.Cluster().Members()) <= 1 {
		// Wait until the entries of an earlier run are applied and raft has had a moment to record that. A
		// member that stands for election looks at the entries that are not applied, and panics if etcd has
		// dropped them in between.
		before := applied
		applied = server.AppliedIndex()
		if applied == 0 || applied != before || applied < server.CommittedIndex() {
			if err := e.pause(ctx, again.C); err != nil {
				return err
			}
			continue
		}
		if caughtUp() {
			_ = server.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &self, From: &self})
		}
		if err := e.pause(ctx, again.C); err != nil {
			return err
		}
	}
	select {
	case <-server.ReadyNotify():
		return nil
	case err := <-e.etcd.Err():
		return err
	case <-server.StopNotify():
		return errors.New("etcd stopped before it was ready")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// caughtUp reports whether raft knows that all committed entries are applied. etcd publishes raft's internal
// state through expvar only.
func caughtUp() bool {
	published, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	status, ok := published().(raft.Status)
	return ok && status.Applied >= status.HardState.GetCommit()
}

func (e *embedded) close() {
	if e.stop != nil {
		e.stop()
	}
	e.done.Wait()
	e.etcd.Close()
	_ = os.Remove(strings.TrimPrefix(e.socket, "unix://"))
}
