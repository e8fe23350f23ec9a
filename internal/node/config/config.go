// Package config reads the node's settings: a KubeletConfiguration (kubelet.config.k8s.io/v1beta1) in a YAML or
// JSON file, with Kubernetes' defaults. A setting that is unknown, or that cannot be, is refused with its
// line, and nothing of the file is taken.
package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/paths"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// Line is where it is, 0 for nowhere in particular.
	Line int
	// Field is the setting's path as the file writes it, "" for the file as a whole.
	Field string
	// Message says what is wrong and, where that is not plain, what would be right.
	Message string
}

// Error is all that is wrong with a file, in the order of its lines.
type Error struct {
	Path     string
	Problems []Problem
}

// Error writes one problem a line: the file, the line, the setting and what is wrong with it.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems {
		where := e.Path
		if p.Line > 0 {
			where = fmt.Sprintf("%s:%d", e.Path, p.Line)
		}
		if p.Field != "" {
			where += ": " + p.Field
		}
		lines = append(lines, where+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}

// Machine is what settings must fit.
type Machine struct {
	// Swap is the swap space in bytes.
	Swap int64
	// Capacity is what there is to reserve of; nil for what is not known.
	Capacity v1.ResourceList
}

// Read reads the settings of the node that lives at p, fills in what they leave open and checks the whole, also
// against the machine. The error is an *Error when the file could be read.
func Read(p paths.Paths, m Machine) (*kubeletconfig.KubeletConfiguration, error) {
	return load(p.KubeletConfig, m, func(c *kubeletconfig.KubeletConfiguration) { set(&c.PodLogsDir, p.PodLogs) })
}

// load reads a file; own are the defaults that come before Kubernetes'.
func load(path string, m Machine, own func(*kubeletconfig.KubeletConfiguration)) (*kubeletconfig.KubeletConfiguration, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the node's settings: %w", err)
	}
	config, lines, problems := decode(content)
	if len(problems) == 0 {
		own(config)
		SetDefaults(config)
		makeAbsolute(config, filepath.Dir(path))
		for _, p := range validate(config, m) {
			p.Line = lines.of(p.Field)
			problems = append(problems, p)
		}
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &Error{path, problems}
	}
	return config, nil
}

// makeAbsolute takes paths that are relative as being relative to the file's folder.
func makeAbsolute(c *kubeletconfig.KubeletConfiguration, dir string) {
	for _, p := range []*string{
		&c.StaticPodPath, &c.Authentication.X509.ClientCAFile, &c.TLSCertFile, &c.TLSPrivateKeyFile, c.ResolverConfig, &c.VolumePluginDir, &c.PodLogsDir,
	} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}
