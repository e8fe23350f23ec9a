package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"podium.dev/podium/internal/paths"
)

// node is a Podium node under test.
type node struct {
	paths  paths.Paths
	bind   string
	flags  []string // of every up
	client *kubernetes.Clientset
}

// binary is bin/podium, which `make e2e` builds, or what PODIUM names.
func binary() string {
	if p := os.Getenv("PODIUM"); p != "" {
		return p
	}
	p, err := filepath.Abs(filepath.Join("..", "..", "bin", "podium"))
	if err != nil {
		return "podium"
	}
	return p
}

func command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

// startNode starts a daemon on a fresh root with the demo's images and waits until its node is Ready.
func startNode(root string, flags ...string) (*node, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &node{paths: paths.For(root), bind: l.Addr().String(), flags: flags}
	l.Close()
	if err := n.furnish(); err != nil {
		return nil, err
	}
	return n, n.up()
}

// furnish gives the node's root the demo's images, as far as it has none.
func (n *node) furnish() error {
	if err := os.MkdirAll(n.paths.Images, 0o700); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(imageDir, "*.tar"))
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := place(a, filepath.Join(n.paths.Images, filepath.Base(a))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// place puts a file where it is to be; it is a copy on another file system.
func place(file, at string) error {
	err := os.Link(file, at)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(at, content, 0o600)
}

// up starts the daemon, and answers when the node is Ready.
func (n *node) up() error {
	args := append([]string{"up", "--detach", "--root", n.paths.Root, "--bind", n.bind, "--node-name", n.name()}, n.flags...)
	if out, err := command(binary(), args...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(n.paths.Root, "podium.log"))
		return fmt.Errorf("podium up: %w\n%s\n%s", err, out, tail(log, 4<<10))
	}
	return n.connect()
}

// connect makes the client of a node that is up.
func (n *node) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", n.paths.AdminKubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	n.client, err = kubernetes.NewForConfig(config)
	return err
}

func (n *node) name() string { return strings.TrimPrefix(n.paths.ID, "podium-") + "-node" }

// down stops everything and removes the root.
func (n *node) down() error {
	if out, err := command(binary(), "down", "--purge", "--root", n.paths.Root).CombinedOutput(); err != nil {
		return fmt.Errorf("podium down: %w\n%s", err, out)
	}
	return nil
}

// leaks answers with what the node has left on the machine after down.
func (n *node) leaks() []string {
	var found []string
	mounts, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(n.paths.Root))
	for _, m := range mounts {
		found = append(found, "mount "+m.Mountpoint)
	}
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, _ := filepath.Glob(filepath.Join(top, n.paths.ID))
		for _, g := range groups {
			found = append(found, "cgroup "+g)
		}
	}
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			if strings.Contains(l.Attrs().Alias, n.paths.ID) || strings.Contains(l.Attrs().Name, strings.TrimPrefix(n.paths.ID, "podium-")) {
				found = append(found, "link "+l.Attrs().Name)
			}
		}
	}
	if nft, err := nftables.New(); err == nil {
		tables, _ := nft.ListTables()
		for _, t := range tables {
			if strings.Contains(t.Name, n.paths.ID) {
				found = append(found, "nft table "+t.Name)
			}
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range commands {
		if b, err := os.ReadFile(c); err == nil && bytes.Contains(b, []byte(n.paths.Root+"/")) {
			found = append(found, "process "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	if _, err := os.Stat(n.paths.Root); !errors.Is(err, os.ErrNotExist) {
		found = append(found, "folder "+n.paths.Root)
	}
	return found
}

// pid is the daemon's process.
func (n *node) pid(t *testing.T) int {
	t.Helper()
	status, err := controlStatus(context.Background(), n.paths.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	return status.PID
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
