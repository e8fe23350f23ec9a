package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/poddir"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/atomicfile"
)

// userRanges gives Pods with users of their own (hostUsers: false) ranges of the node's user and group IDs.
// A Pod's range is kept in its folder and is free again when the folder is gone: nothing is held in memory.
type userRanges struct {
	mu    sync.Mutex
	paths paths.Paths
	// length is how many IDs a Pod has; IDs below it are the node's own.
	length uint32
}

func newUserRanges(p paths.Paths, k *kubeletconfig.KubeletConfiguration) *userRanges {
	u := &userRanges{paths: p, length: 65536}
	if k != nil && k.UserNamespaces != nil && k.UserNamespaces.IDsPerPod != nil {
		u.length = uint32(*k.UserNamespaces.IDsPerPod)
	}
	return u
}

// userMapping is the form of the file, as the kubelet writes it.
type userMapping struct {
	UIDs []idMapping `json:"uidMappings"`
	GIDs []idMapping `json:"gidMappings"`
}

type idMapping struct {
	HostID      uint32 `json:"hostId"`
	ContainerID uint32 `json:"containerId"`
	Length      uint32 `json:"length"`
}

// of returns the Pod's user namespace, and chooses its IDs the first time.
func (u *userRanges) of(pod *v1.Pod) (*runtimeapi.UserNamespace, error) {
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	m, err := u.read(pod.UID)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = u.choose(pod.UID)
	}
	if err != nil {
		return nil, fmt.Errorf("user namespace of pod %q: %w", podName(pod), err)
	}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: mappings(m.UIDs), Gids: mappings(m.GIDs)}, nil
}

func mappings(list []idMapping) []*runtimeapi.IDMapping {
	var out []*runtimeapi.IDMapping
	for _, m := range list {
		out = append(out, &runtimeapi.IDMapping{HostId: m.HostID, ContainerId: m.ContainerID, Length: m.Length})
	}
	return out
}

func (u *userRanges) file(uid types.UID) string {
	return filepath.Join(poddir.Dir(u.paths, uid), "userns")
}

func (u *userRanges) read(uid types.UID) (m userMapping, err error) {
	raw, err := os.ReadFile(u.file(uid))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", u.file(uid), err)
	}
	if len(m.UIDs) != 1 || len(m.GIDs) != 1 || m.UIDs[0].Length == 0 {
		return m, fmt.Errorf("read %s: it does not hold one range of users and one of groups", u.file(uid))
	}
	return m, nil
}

// choose takes the lowest range that no Pod with a folder has.
func (u *userRanges) choose(uid types.UID) (userMapping, error) {
	entries, err := os.ReadDir(u.paths.Pods)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return userMapping{}, err
	}
	taken := map[uint32]bool{}
	for _, e := range entries {
		if m, err := u.read(types.UID(e.Name())); err == nil {
			taken[m.UIDs[0].HostID] = true
		}
	}
	for first := u.length; ; first += u.length {
		if first > math.MaxUint32-2*u.length {
			return userMapping{}, errors.New("no range of user IDs is free")
		}
		if !taken[first] {
			ids := []idMapping{{HostID: first, Length: u.length}}
			m := userMapping{UIDs: ids, GIDs: ids}
			return m, u.write(uid, m)
		}
	}
}

// write keeps the choice over a power cut: a running container's files belong to it.
func (u *userRanges) write(uid types.UID, m userMapping) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(poddir.Dir(u.paths, uid), 0o750); err != nil {
		return err
	}
	return atomicfile.Write(u.file(uid), raw, 0o600, atomicfile.PowerCut)
}

// withUsers has the mounts shown to the Pod's users as the node's are to it.
func withUsers(mounts []*runtimeapi.Mount, users *runtimeapi.UserNamespace) []*runtimeapi.Mount {
	for _, m := range mounts {
		m.UidMappings, m.GidMappings = users.GetUids(), users.GetGids()
	}
	return mounts
}
