package stats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/poddir"
)

// hidden measures what a Pod has on disk in none of its layers, logs and volumes: the files that are mounted into
// containers one by one, which they may write to, and files that have lost their names but are still held open.
func (s *Source) hidden(ctx context.Context, p *v1.Pod) (measured, error) {
	return s.measure(p, "hidden/"+string(p.UID), func(m *measured) error {
		m.use = Use{At: m.at}
		files, err := s.runtimeFiles(ctx, p, m)
		files = append(files, poddir.Hosts(s.c.Paths, p.UID), poddir.Containers(s.c.Paths, p.UID))
		for _, path := range files {
			if u, err := DiskUse(ctx, path, m.at); err == nil { // else there is none
				m.use = m.use.plus(u.Bytes, u.Inodes)
			}
		}
		pids, failed := s.c.Tree.Procs(container.PodCgroup(p))
		if failed == nil {
			var held Use
			held, m.volumes, failed = countHeld(ctx, pids, p.UID, poddir.Dir(s.c.Paths, p.UID))
			m.use = m.use.plus(held.Bytes, held.Inodes)
		}
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("measure what is outside of layers and volumes: %w", err)
		}
		return nil
	})
}

// runtimeFiles are the files that the runtime has made for the Pod's running containers, such as /etc/resolv.conf. Only
// the runtime knows where they are: CRI has no field for it, but the verbose status of containerd and of Podium's own
// runtime has the container's configuration. What is known of a container is kept in m.
func (s *Source) runtimeFiles(ctx context.Context, p *v1.Pod, m *measured) ([]string, error) {
	list, err := s.c.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{
		LabelSelector: map[string]string{container.LabelPodUID: string(p.UID)},
		State:         &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for the containers of pod %s: %w", p.Name, err)
	}
	known, seen, out := m.files, map[string]bool{}, []string(nil)
	m.files = map[string][]string{}
	for _, c := range list {
		files, ok := known[c.Id]
		if !ok {
			st, err := s.c.Runtime.ContainerStatus(ctx, c.Id, true)
			if err != nil {
				continue // it has ended meanwhile
			}
			files = ownFiles(st)
		}
		m.files[c.Id] = files
		for _, path := range files {
			if !seen[path] {
				seen[path] = true
				out = append(out, path)
			}
		}
	}
	return out, nil
}

// ownFiles are the sources of a container's /etc/hostname and /etc/resolv.conf, unless these were asked for as mounts:
// then they belong to a volume.
func ownFiles(st *runtimeapi.ContainerStatusResponse) []string {
	var info struct {
		RuntimeSpec struct {
			Mounts []specs.Mount `json:"mounts"`
		} `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(st.GetInfo()["info"]), &info); err != nil {
		return nil
	}
	asked := map[string]bool{}
	for _, m := range st.GetStatus().GetMounts() {
		asked[m.ContainerPath] = true
	}
	var out []string
	for _, m := range info.RuntimeSpec.Mounts {
		if (m.Destination == "/etc/hostname" || m.Destination == "/etc/resolv.conf") && !asked[m.Destination] {
			out = append(out, m.Source)
		}
	}
	return out
}
