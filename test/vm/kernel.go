package main

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// wanted are the kernel modules that a node and the machine's devices need.
var wanted = []string{
	"virtio_pci", "virtio_blk", "virtio_console",
	"overlay", "loop", "veth", "bridge", "br_netfilter", "dummy", "ifb", "tun",
	"nf_tables", "nf_conntrack_netlink", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_fib_inet", "nft_reject_inet", "nft_meta_bridge",
	"xfrm_user", "nft_numgen", "nft_hash", "nft_limit", "nft_log", "sch_tbf", "sch_ingress", "cls_u32", "cls_matchall", "act_mirred",
}

// kernel is an unpacked Debian kernel package.
type kernel struct {
	image   string   // the bzImage
	modules []string // files, in an order that satisfies their dependencies
}

// unpackKernel unpacks the image and the wanted modules of the newest package in a folder.
func unpackKernel(packages, to string) (kernel, error) {
	debs, err := filepath.Glob(filepath.Join(packages, "linux-image-*.deb"))
	if err != nil {
		return kernel{}, err
	}
	if len(debs) == 0 {
		return kernel{}, fmt.Errorf("find the kernel's package: no linux-image-*.deb in %s; get it with `hack/setup.sh vm`", packages)
	}
	sort.Slice(debs, func(i, j int) bool { return modified(debs[i]) > modified(debs[j]) })
	if err := unpack(debs[0], to); err != nil {
		return kernel{}, fmt.Errorf("unpack %s: %w", debs[0], err)
	}
	images, err := filepath.Glob(filepath.Join(to, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("find the kernel in %s: found %v, want one (%v)", debs[0], images, err)
	}
	files, needs, builtin, err := readModules(filepath.Join(to, "lib", "modules"))
	if err != nil {
		return kernel{}, err
	}
	names, err := inOrder(wanted, needs, builtin)
	if err != nil {
		return kernel{}, fmt.Errorf("choose the modules of %s: %w", debs[0], err)
	}
	k := kernel{image: images[0]}
	for _, n := range names {
		k.modules = append(k.modules, files[n])
	}
	return k, nil
}

func modified(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// unpack writes a package's kernel and modules below a folder, without installing it.
func unpack(deb, to string) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = untar(out, to)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	return errors.Join(err, cmd.Wait())
}

func untar(r io.Reader, to string) error {
	files := tar.NewReader(r)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the padding of the last block
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) || !kept(name) {
			continue
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, files)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

// kept reports whether a file of the package is needed: the kernel, and modules that are not hardware drivers.
func kept(name string) bool {
	if strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasSuffix(name, "/modules.builtin") {
		return true
	}
	name, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
	return ok && !strings.Contains(name, "/drivers/net/ethernet/") && !strings.Contains(name, "/drivers/infiniband/")
}

// readModules returns the modules below a folder by name: their files, their dependencies, and the modules that
// are built into the kernel.
func readModules(dir string) (files map[string]string, needs map[string][]string, builtin map[string]bool, err error) {
	files, needs, builtin = map[string]string{}, map[string][]string{}, map[string]bool{}
	err = filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() == "modules.builtin" {
			text, err := os.ReadFile(file)
			for _, line := range strings.Fields(string(text)) {
				builtin[moduleName(line)] = true
			}
			return err
		}
		if file, err = plain(file); err != nil || !strings.HasSuffix(file, ".ko") {
			return err
		}
		files[moduleName(file)] = file
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look for modules: %w", err)
	}
	for name, file := range files {
		if needs[name], err = needsOf(file); err != nil {
			return nil, nil, nil, fmt.Errorf("read the module %s: %w", file, err)
		}
	}
	return files, needs, builtin, nil
}

// plain decompresses a compressed module, as newer packages have them.
func plain(file string) (string, error) {
	if !strings.HasSuffix(file, ".ko.xz") {
		return file, nil
	}
	if out, err := exec.Command("xz", "--decompress", "--force", file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", file, err, out)
	}
	return strings.TrimSuffix(file, ".xz"), nil
}

// moduleName returns a module's name from its file. The kernel treats - and _ as equal.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(filepath.ToSlash(file)), ".ko"), "-", "_")
}

// needsOf returns the modules that a module depends on.
func needsOf(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("section .modinfo is missing")
	}
	info, err := section.Data()
	return dependencies(info), err
}

// dependencies parses a module's .modinfo section: zero-terminated words, one of which is depends=A,B.
func dependencies(info []byte) []string {
	var out []string
	for _, word := range strings.Split(string(info), "\x00") {
		list, ok := strings.CutPrefix(word, "depends=")
		for _, name := range strings.Split(list, ",") {
			if ok && name != "" {
				out = append(out, moduleName(name))
			}
		}
	}
	return out
}

// inOrder returns the wanted modules and their dependencies, each after those it depends on, without those that
// are built into the kernel.
func inOrder(wanted []string, needs map[string][]string, builtin map[string]bool) ([]string, error) {
	var out []string
	done := map[string]bool{}
	var add func(name, because string) error
	add = func(name, because string) error {
		if done[name] || builtin[name] {
			return nil
		}
		done[name] = true
		if _, ok := needs[name]; !ok {
			return fmt.Errorf("module %s, which %s needs, does not exist", name, because)
		}
		for _, n := range needs[name] {
			if err := add(n, name); err != nil {
				return err
			}
		}
		out = append(out, name)
		return nil
	}
	for _, name := range wanted {
		if err := add(name, "the machine"); err != nil {
			return nil, err
		}
	}
	return out, nil
}
