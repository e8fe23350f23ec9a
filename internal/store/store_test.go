package store

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

func TestEmbedded(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "run", "etcd.sock")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	for round := range 3 {
		start := time.Now()
		s, err := Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: started in %v", round, time.Since(start))
		if round > 0 {
			got, err := s.Client().KV.Get(ctx, "key")
			if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value" {
				t.Errorf("round %d: key = %v, %v", round, got, err)
			}
		}
		if _, err := s.Client().KV.Put(ctx, "key", "value"); err != nil {
			t.Error(err)
		}
		n := 50
		start = time.Now()
		for range n {
			if _, err := s.Client().KV.Put(ctx, "key", "value"); err != nil {
				t.Error(err)
			}
		}
		t.Logf("put %v each", time.Since(start)/time.Duration(n))
		start = time.Now()
		for range n {
			if _, err := s.Client().KV.Get(ctx, "key"); err != nil {
				t.Error(err)
			}
		}
		t.Logf("get %v each", time.Since(start)/time.Duration(n))
		start = time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("closed in %v", time.Since(start))
	}
}

// A long run leaves entries that etcd drops while the next run applies them.
func TestStartAfterALongRun(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "run", "etcd.sock")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for round := range 4 {
		start := time.Now()
		s, err := Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: started in %v", round, time.Since(start))
		for range 400 {
			if _, err := s.Client().KV.Put(ctx, "key", "value"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The same code uses an etcd that another process runs.
func TestExternal(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	other, err := Start(ctx, Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "run", "etcd.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s, err := Start(ctx, Config{Servers: other.Transport().ServerList})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client().KV.Put(ctx, "key", "value"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// Closing one client leaves the other usable.
	got, err := other.Client().KV.Get(ctx, "key")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value" {
		t.Errorf("key = %v, %v", got, err)
	}
}

func TestExternalThatIsNotThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := Start(ctx, Config{Servers: []string{"unix://" + filepath.Join(t.TempDir(), "none.sock")}})
	if err == nil {
		s.Close()
		t.Fatal("started without an etcd")
	}
	t.Log(err)
}

func TestWorthDefrag(t *testing.T) {
	for _, c := range []struct {
		size, inUse int64
		want        bool
	}{
		{1 << 20, 0, false},
		{defragMinBytes, defragMinBytes, false},
		{defragMinBytes, defragMinBytes/2 - 1, true},
		{1 << 30, 600 << 20, false},
	} {
		if got := worthDefrag(c.size, c.inUse); got != c.want {
			t.Errorf("worthDefrag(%d, %d) = %v, want %v", c.size, c.inUse, got, c.want)
		}
	}
}
