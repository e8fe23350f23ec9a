package build

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteOCI writes images as a tar of an OCI layout, each under its names.
func WriteOCI(w io.Writer, all ...*Built) error {
	t := tar.NewWriter(w)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	blobs := map[digest.Digest][]byte{}
	for _, b := range all {
		maps.Copy(blobs, b.Blobs)
		for _, name := range b.Names {
			d := b.Target
			d.Annotations = map[string]string{images.AnnotationImageName: name}
			index.Manifests = append(index.Manifests, d)
		}
		if len(b.Names) == 0 {
			index.Manifests = append(index.Manifests, b.Target)
		}
	}
	if err := writeJSON(t, ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(blobs)) {
		if err := writeTar(t, "blobs/sha256/"+d.Encoded(), blobs[d]); err != nil {
			return err
		}
	}
	if err := writeJSON(t, ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	return t.Close()
}

// WriteDocker writes images as "docker save" wrote them before it wrote OCI layouts: layers by name, and a list of
// images with their tags at the end.
func WriteDocker(w io.Writer, all ...*Built) error {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	t := tar.NewWriter(w)
	var list []entry
	written := map[string]bool{}
	put := func(name string, body []byte) error {
		if written[name] {
			return nil
		}
		written[name] = true
		return writeTar(t, name, body)
	}
	for _, b := range all {
		e := entry{Config: b.Config.Digest.Encoded() + ".json", RepoTags: b.Names}
		if err := put(e.Config, b.Blobs[b.Config.Digest]); err != nil {
			return err
		}
		for _, l := range b.Layers {
			name := l.Digest.Encoded() + "/layer.tar"
			e.Layers = append(e.Layers, name)
			if err := put(name, b.Blobs[l.Digest]); err != nil {
				return err
			}
		}
		list = append(list, e)
	}
	if err := writeJSON(t, "manifest.json", list); err != nil {
		return err
	}
	return t.Close()
}

func writeJSON(t *tar.Writer, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return writeTar(t, name, raw)
}

func writeTar(t *tar.Writer, name string, body []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: stamp, Typeflag: tar.TypeReg}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := t.Write(body); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
