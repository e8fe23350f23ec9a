package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// heldOpen is a script that writes so many MiB to a file which it has removed while it holds it open.
func heldOpen(path string, mebibytes int) string {
	return fmt.Sprintf("exec 3>%[1]s; rm %[1]s; dd if=/dev/zero bs=1M count=%[2]d >&3; sync; exec sleep 3600", path, mebibytes)
}

// Whatever a container can write to on disk counts: files that are mounted into it one by one, and files that no longer
// have a name.
func TestHostileStorageOutsideOfLayersAndVolumes(t *testing.T) {
	s := newSpace(t)
	disk := corev1.EmptyDirVolumeSource{}
	ten := mebibytes(10)
	for name, script := range map[string]string{
		"hostname": fill("/etc/hostname", 30), "resolver": fill("/etc/resolv.conf", 30), "hosts": fill("/etc/hosts", 30),
		"message": fill("/dev/termination-log", 30), "open-layer": heldOpen("/file", 30), "open-volume": heldOpen("/data/file", 30),
	} {
		s.create(limitedTo(withVolume(shellPod(name, script), disk), "20Mi"))
	}
	s.create(limitedTo(withVolume(shellPod("within", heldOpen("/data/file", 5)), disk), "20Mi"))
	s.create(withVolume(shellPod("volume", heldOpen("/data/file", 15)), corev1.EmptyDirVolumeSource{SizeLimit: &ten}))
	for _, name := range []string{"hostname", "resolver", "hosts", "message", "open-layer", "open-volume"} {
		s.evicted(name, "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ")
	}
	s.evicted("volume", `Usage of EmptyDir volume "data" exceeds the limit "10Mi". `)
	s.awaitRunning("within")
}
