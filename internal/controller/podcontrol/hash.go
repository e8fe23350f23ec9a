package podcontrol

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/dump"
	"k8s.io/apimachinery/pkg/util/rand"
)

// TemplateHash returns the hash by which Kubernetes names what is made of a Pod template: a ReplicaSet of a Deployment, a
// revision of a DaemonSet. The collision count, when there is one, changes the hash after a name was found to be taken.
// The same template has the same hash on every Kubernetes of the same release: FNV-1a over the printed template.
func TemplateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprint(h, dump.ForHash(*template))
	if collisions != nil {
		count := make([]byte, 8)
		binary.LittleEndian.PutUint32(count, uint32(*collisions))
		h.Write(count)
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
