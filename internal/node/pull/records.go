package pull

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/util/atomicfile"
)

// records keeps, across restarts, which images this node pulled and with which credentials, in the kubelet's
// own form: a file for each pull under way in pulling/, a file for each image in pulled/. An image without
// any record was put there by other hands and may be used by every Pod.
type records struct {
	dir string

	mu      sync.Mutex
	pulling map[string]int // by image
}

func newRecords(dir string) *records { return &records{dir: dir, pulling: map[string]int{}} }

func (r *records) file(folder, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(r.dir, folder, "sha256-"+hex.EncodeToString(sum[:]))
}

// intend notes that a pull of the image begins: should the daemon be killed in its midst, what is then found of
// the image is known to be the node's own pull.
func (r *records) intend(image string) error {
	if r.dir == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulling[image]++
	if r.pulling[image] > 1 {
		return nil
	}
	intent := kubeletconfig.ImagePullIntent{TypeMeta: typeMeta("ImagePullIntent"), Image: image}
	return write(r.file("pulling", image), intent)
}

// over notes that a pull that intend was told of has ended.
func (r *records) over(image string) {
	if r.dir == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulling[image]--
	if r.pulling[image] > 0 {
		return
	}
	delete(r.pulling, image)
	// A file that stays makes the node ask for credentials once more than it must, no more.
	_ = os.Remove(r.file("pulling", image))
}

// pulled notes that the image was pulled, with a credential, or nil with none.
func (r *records) pulled(image, ref string, with *credential, now time.Time) error {
	if r.dir == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := r.file("pulled", ref)
	rec, err := read(path)
	if err != nil || rec == nil {
		rec = &kubeletconfig.ImagePulledRecord{TypeMeta: typeMeta("ImagePulledRecord"), ImageRef: ref}
	}
	if rec.CredentialMapping == nil {
		rec.CredentialMapping = map[string]kubeletconfig.ImagePullCredentials{}
	}
	have := rec.CredentialMapping[bare(image)]
	switch {
	case have.NodePodsAccessible:
		return nil
	case with == nil || with.secret == nil:
		have = kubeletconfig.ImagePullCredentials{NodePodsAccessible: true}
	case slices.Contains(have.KubernetesSecrets, *with.secret):
		return nil
	default:
		have.KubernetesSecrets = slices.DeleteFunc(have.KubernetesSecrets, func(s kubeletconfig.ImagePullSecret) bool {
			return s.UID == with.secret.UID && s.Namespace == with.secret.Namespace && s.Name == with.secret.Name
		})
		have.KubernetesSecrets = append(have.KubernetesSecrets, *with.secret)
	}
	rec.CredentialMapping[bare(image)] = have
	rec.LastUpdatedTime = metav1.NewTime(now)
	return write(path, rec)
}

// lookup reports whether every Pod may use the image, and else which Secrets open it.
func (r *records) lookup(image, ref string) (free bool, secrets []kubeletconfig.ImagePullSecret) {
	if r.dir == "" {
		return true, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := read(r.file("pulled", ref))
	if err != nil {
		return false, nil
	}
	if rec == nil {
		_, err := os.Stat(r.file("pulling", image))
		return r.pulling[image] == 0 && errors.Is(err, fs.ErrNotExist), nil
	}
	have := rec.CredentialMapping[bare(image)]
	return have.NodePodsAccessible, have.KubernetesSecrets
}

// matches reports whether one of the credentials is from one of the Secrets, or is the same as one there.
func matches(secrets []kubeletconfig.ImagePullSecret, mine []credential) bool {
	for i := range mine {
		m := mine[i].secret
		if m == nil {
			continue
		}
		for _, s := range secrets {
			same := s.UID == m.UID && s.Namespace == m.Namespace && s.Name == m.Name
			if same || (s.CredentialHash != "" && s.CredentialHash == m.CredentialHash) {
				return true
			}
		}
	}
	return false
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}
}

func read(path string) (*kubeletconfig.ImagePulledRecord, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of a pulled image: %w", err)
	}
	rec := new(kubeletconfig.ImagePulledRecord)
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("read the record of a pulled image in %s: %w", path, err)
	}
	return rec, nil
}

// write replaces the file of a record in one step.
func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the record of a pull: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder of pull records: %w", err)
	}
	if err := atomicfile.Write(path, data, 0o600, atomicfile.Crash); err != nil {
		return fmt.Errorf("write the record of a pull: %w", err)
	}
	return nil
}
