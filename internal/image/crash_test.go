package image

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podium.dev/podium/internal/image/build"
)

// crashRoot, in the environment, makes the test binary a daemon that takes in archives until it is killed.
const crashRoot = "PODIUM_IMAGE_CRASH_ROOT"

func TestMain(m *testing.M) {
	root := os.Getenv(crashRoot)
	if root == "" {
		os.Exit(m.Run())
	}
	s, err := Open(context.Background(), Config{Paths: pathsAt(root)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	// Until it is killed: taken in, used, removed, and from the beginning.
	for i := 0; ; i++ {
		archives, _ := filepath.Glob(filepath.Join(os.Args[len(os.Args)-1], "*.tar"))
		for _, a := range archives {
			imgs, err := s.Load(context.Background(), a)
			if err == nil {
				_, err = s.Rootfs(context.Background(), imgs[0], fmt.Sprint("c", i), false)
			}
			if err == nil && i%2 == 0 {
				err = s.RemoveRootfs(context.Background(), fmt.Sprint("c", i))
			}
			if err == nil {
				err = s.Remove(context.Background(), imgs[0].ID)
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			i++
		}
	}
}

// A daemon killed at any moment leaves whole images only, nothing that a removal does not free, and no mount.
func TestKilledAtAnyMoment(t *testing.T) {
	s := open(t)
	empty := contents(t, s)
	check(t, s.Close())
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		b, err := build.Build(build.Image{
			Names:  []string{"podium.local/" + name + ":1"},
			Layers: [][]build.File{{build.Plain("base", 0o644, []byte("base"))}, {build.Plain("hello", 0o644, noise(200<<10))}},
		})
		check(t, err)
		raw, err := os.ReadFile(archiveFile(t, name+".tar", build.WriteOCI, b))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, name+".tar"), raw, 0o600))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	temp := t.TempDir()
	for range 12 {
		cmd := exec.Command("/proc/self/exe", dir)
		cmd.Env = append(os.Environ(), crashRoot+"="+s.cfg.Paths.Root, "TMPDIR="+temp)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		if n, _ := out.Read(make([]byte, 5)); n != 5 {
			t.Fatal("the daemon did not come up")
		}
		<-time.After(time.Duration(random.Int64N(int64(80 * time.Millisecond))))
		check(t, cmd.Process.Kill())
		_ = cmd.Wait()
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		check(t, err)
		if strings.Contains(string(mounts), temp) {
			t.Error("a mount is left")
		}

		s = reopen(t, s.cfg)
		all, err := s.List(t.Context())
		check(t, err)
		for _, img := range all {
			rootfs, err := s.Rootfs(t.Context(), img, "check", false)
			check(t, err)
			if got := readInside(t, rootfs, "hello"); len(got) != 200<<10 {
				t.Errorf("image %s has a file of %d bytes", img.ID, len(got))
			}
			check(t, s.RemoveRootfs(t.Context(), "check"))
			check(t, s.Remove(t.Context(), img.ID))
		}
		s.uses.mu.Lock()
		left := make([]string, 0, len(s.uses.byKey))
		for key := range s.uses.byKey {
			left = append(left, key)
		}
		s.uses.mu.Unlock()
		for _, key := range left {
			check(t, s.RemoveRootfs(t.Context(), key))
		}
		unchanged(t, s, empty)
		check(t, s.Close())
	}
}

// A layer that was made and that metadata never came to know of goes at the next start.
func TestOrphanedLayerIsRemoved(t *testing.T) {
	s := open(t)
	empty := contents(t, s)
	_, err := s.overlay.Prepare(s.ctx, namespace+"/1/cut-short", "")
	check(t, err)
	check(t, s.Close())

	unchanged(t, reopen(t, s.cfg), empty)
}
