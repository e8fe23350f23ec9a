// Package poddir says where the files of one Pod are below the kubelet's folder. The layout is the kubelet's
// own, since other tools look into it.
package poddir

import (
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/paths"
)

// Dir is the folder of a Pod.
func Dir(p paths.Paths, uid types.UID) string { return filepath.Join(p.Pods, string(uid)) }

// Volumes is the folder of a Pod's volumes.
func Volumes(p paths.Paths, uid types.UID) string { return filepath.Join(Dir(p, uid), "volumes") }

// Volume is the folder of one volume made by a plugin named as kubernetes.io/empty-dir.
func Volume(p paths.Paths, uid types.UID, plugin, name string) string {
	return filepath.Join(Volumes(p, uid), strings.ReplaceAll(plugin, "/", "~"), name)
}

// Plugin is where a plugin keeps its own notes of one volume.
func Plugin(p paths.Paths, uid types.UID, plugin, name string) string {
	return filepath.Join(Dir(p, uid), "plugins", strings.ReplaceAll(plugin, "/", "~"), name)
}

// SubPaths is the folder of the bind mounts of volumes' sub-paths.
func SubPaths(p paths.Paths, uid types.UID) string {
	return filepath.Join(Dir(p, uid), "volume-subpaths")
}

// SubPath is the bind mount of the container's mount of that index.
func SubPath(p paths.Paths, uid types.UID, volume, container string, index int) string {
	return filepath.Join(SubPaths(p, uid), volume, container, strconv.Itoa(index))
}

// Containers is the folder of the folders of containers' termination messages.
func Containers(p paths.Paths, uid types.UID) string { return filepath.Join(Dir(p, uid), "containers") }

// Container is the folder of a container's termination messages.
func Container(p paths.Paths, uid types.UID, name string) string {
	return filepath.Join(Containers(p, uid), name)
}

// Hosts is the Pod's /etc/hosts.
func Hosts(p paths.Paths, uid types.UID) string { return filepath.Join(Dir(p, uid), "etc-hosts") }
