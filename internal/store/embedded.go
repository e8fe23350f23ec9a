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
	// quotaBytes is how large the database may grow before writes are refused.
	quotaBytes = 8 << 30
	// bootDefragMegabytes is how much a defragmentation at start must free to be worth the wait.
	bootDefragMegabytes = 256
	// progressInterval is how often watches that see no change are told how far the store has come. It must
	// be well below the age at which the API server drops old revisions, or such a watch could not go on.
	progressInterval = time.Minute
	// standInterval is how often a member that is alone is told to lead until it does.
	standInterval = 2 * time.Millisecond
	// electionMillis is after how long a member that does not lead stands for election by itself, which lead
	// below makes needless. It is long because raft must not look through the entries of an earlier run before it
	// has noted that they are applied: etcd 3.7 drops the first of them as soon as it has applied a hundred, and
	// raft, made to look on a busy machine by a timeout of a second, panics at the gap.
	electionMillis = 10_000
	// commitInterval is how long what is written waits, safe in the log, to be put into the database.
	commitInterval = 500 * time.Millisecond
)

// embedded is the etcd of this process.
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
			return nil, fmt.Errorf("make the folder of the store: %w; check the rights on the root", err)
		}
	}
	// A socket left by a daemon that was killed would make the listener fail. One daemon a root is the
	// caller's guarantee, so nobody can be listening there.
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

// pause waits for the next beat, or answers why there will be none.
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
	// There are no peers, so nothing listens for them. The advertised peer address is only the member's
	// identity in its own cluster of one.
	cfg.ListenPeerUrls = nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ElectionMs = electionMillis
	cfg.InitialElectionTickAdvance = false // that would use the time up at once
	cfg.QuotaBackendBytes = quotaBytes
	cfg.BootstrapDefragThresholdMegabytes = bootDefragMegabytes
	cfg.BackendBatchInterval = commitInterval
	cfg.EnableGRPCGateway = false
	cfg.WatchProgressNotifyInterval = progressInterval
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newLogCore(zapcore.WarnLevel)))
	return cfg
}

// lead makes the one member the leader at once and returns when it serves. Left alone it would stand for
// election only after a random time of up to two election timeouts. raft's own message for a leader that
// hands over (MsgTimeoutNow) makes it stand now. It is sent only when raft has taken note of every entry that
// was committed before: until then raft would look through them, and panics when etcd has applied them
// already and dropped the first.
func (e *embedded) lead(ctx context.Context) error {
	server := e.etcd.Server
	self := uint64(server.MemberID())
	again := time.NewTicker(standInterval)
	defer again.Stop()
	applied := uint64(0)
	for server.Leader() == 0 && len(server.Cluster().Members()) <= 1 {
		// Not before the entries of an earlier run are applied, and raft has had a moment to note it: a member
		// that stands looks at what is not applied, and panics when etcd has dropped it in between.
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
		return errors.New("it stopped before it was ready")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// caughtUp says whether raft knows that all committed entries are applied. etcd publishes raft's own state of
// this process by expvar only.
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
