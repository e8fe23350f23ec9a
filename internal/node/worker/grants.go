package worker

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/util/atomicfile"
)

// grant is what a resized Pod was granted and what was made of that. It is kept in a file, for nothing else
// says it after the daemon was killed; of a Pod that was never resized its containers tell, which cannot be
// changed once they are made.
type grant struct {
	// Allocated is what the node granted.
	Allocated pod.Allocation `json:"allocated"`
	// Cgroup is what the Pod's cgroup was last held to, nil when it was not made yet.
	Cgroup *pod.Allocation `json:"cgroup,omitempty"`
	// Containers are those that were resized while they ran, by ID.
	Containers map[string]pod.Allocation `json:"containers,omitempty"`
	// kept is that there is a file.
	kept bool
}

// readGrants reads all grants of a folder; what is broken is passed over, and told.
func readGrants(dir string) (map[types.UID]grant, error) {
	grants := map[types.UID]grant{}
	if dir == "" {
		return grants, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return grants, nil
	}
	failed := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // what a crash left of a write
			failed = append(failed, os.Remove(filepath.Join(dir, e.Name())))
			continue
		}
		r := grant{kept: true}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		grants[types.UID(e.Name())] = r
	}
	return grants, errors.Join(failed...)
}

// writeGrant replaces the file of a grant in one step.
func writeGrant(dir string, uid types.UID, r grant) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, string(uid)), text, 0o600, atomicfile.Crash)
}

// keepLocked writes the worker's grant; the lock is held.
func (m *Manager) keepLocked(w *worker) error {
	if m.cfg.Allocations == "" {
		return nil
	}
	w.grant.kept = true
	return writeGrant(m.cfg.Allocations, w.uid, w.grant)
}

// unkeepLocked removes the grant of a Pod that is gone; the lock is held.
func (m *Manager) unkeepLocked(uid types.UID) {
	if m.cfg.Allocations != "" {
		_ = os.Remove(filepath.Join(m.cfg.Allocations, string(uid))) // read and swept when the daemon is up again
	}
}
