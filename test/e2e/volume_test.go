package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const configManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, size: small}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: first}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c0
    image: ` + shellImage + `
    command: [sleep, "3600"]
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: key, key: password}}}
    - {name: NONE, valueFrom: {configMapKeyRef: {name: nowhere, key: x, optional: true}}}
    envFrom:
    - {prefix: ALL_, configMapRef: {name: settings}}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: key, mountPath: /key}
    - {name: settings, mountPath: /colour, subPath: colour}
    - {name: everything, mountPath: /everything}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: key, secret: {secretName: key, defaultMode: 0400}}
  - name: everything
    projected:
      sources:
      - configMap: {name: settings, items: [{key: size, path: deep/size}]}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
`

// What a Pod reads of ConfigMaps, Secrets and itself: as environment it stays, as files it follows.
func TestConfigVolumesFollow(t *testing.T) {
	s := newSpace(t)
	s.apply(configManifest)
	s.awaitRunning("reader")
	show := func(script string) string { return s.kubectl("exec", "reader", "--", "sh", "-c", script) }
	if got := show("echo $COLOUR $PASSWORD $ALL_size .$NONE. $(cat /settings/colour /key/password /colour /everything/deep/size)"); got != "red first small .. redfirstredsmall\n" {
		s.Errorf("at the start: %q", got)
	}
	if got := show("stat -L -c %a /key/password"); got != "400\n" {
		s.Errorf("the secret's mode: %q", got)
	}
	s.kubectl("patch", "configmap", "settings", "-p", `{"data":{"colour":"blue"}}`)
	s.kubectl("patch", "secret", "key", "-p", `{"stringData":{"password":"second"}}`)
	s.kubectl("label", "pod", "reader", "new=one")
	s.eventually("the files follow", func() error {
		if got := show("cat /settings/colour /key/password /everything/labels"); !strings.HasPrefix(got, "bluesecond") || !strings.Contains(got, `new="one"`) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got := show("echo $COLOUR $(cat /colour)"); got != "red red\n" {
		s.Errorf("environment and sub-path follow: %q", got)
	}
}

// A Pod waits for a ConfigMap or Secret that is not there, says so, and starts as soon as it is.
func TestWaitsForConfig(t *testing.T) {
	s := newSpace(t)
	env := shellPod("env", "echo $A; exec sleep 3600")
	env.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}}}}
	s.create(env)
	vol := shellPod("vol", "echo $(cat /v/A); exec sleep 3600")
	vol.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "later"}}}}
	vol.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	s.create(vol)
	s.awaitWaiting("env", `configmap "later" not found`, "CreateContainerConfigError")
	s.says([]string{"get", "pod", "env"}, "CreateContainerConfigError")
	s.eventuallyEvent("vol", "FailedMount", `MountVolume.SetUp failed for volume "v" : secret "later" not found`)
	s.refused([]string{"logs", "vol"}, `container "c0" in pod "vol" is waiting to start: ContainerCreating`)
	s.refused([]string{"exec", "vol", "--", "true"}, `container not found ("c0")`)
	s.kubectl("create", "configmap", "later", "--from-literal=A=one")
	s.kubectl("create", "secret", "generic", "later", "--from-literal=A=two")
	s.awaitRunning("env")
	s.awaitRunning("vol")
	for pod, want := range map[string]string{"env": "one\n", "vol": "two\n"} {
		s.eventually(pod+" has it", func() error {
			if out := s.kubectl("logs", pod); out != want {
				return fmt.Errorf("%q", out)
			}
			return nil
		})
	}
}

// An emptyDir is shared by the Pod's containers, outlives their restarts, and may be of memory.
func TestEmptyDirs(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("share", "echo x >> /data/runs; while [ ! -e /data/end ]; do sleep 0.05; done; rm /data/end", "exec sleep 3600")
	limit := mebibytes(8)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "ram", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit}}},
	}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "ram", MountPath: "/ram"}}
	}
	s.create(pod)
	s.awaitRunning("share")
	if out := s.kubectl("exec", "share", "-c", "c1", "--", "sh", "-c", "touch /data/end; df -k /ram | tail -1"); !strings.Contains(out, "tmpfs") || !strings.Contains(out, " 8192 ") {
		s.Errorf("the emptyDir of memory: %q", out)
	}
	s.await("share", "restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 1 && isReady(p) })
	s.eventually("the volume outlived the restart", func() error {
		if out := s.kubectl("exec", "share", "-c", "c1", "--", "cat", "/data/runs"); out != "x\nx\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
}

// A folder of the machine of the wrong kind is refused with the cause.
func TestHostPathChecked(t *testing.T) {
	s := newSpace(t)
	file := filepath.Join(s.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		s.Fatal(err)
	}
	pod := withHostDir(shellPod("wrong", "true"), file)
	kind := corev1.HostPathDirectory
	pod.Spec.Volumes[0].HostPath.Type = &kind
	s.create(pod)
	s.eventuallyEvent("wrong", "FailedMount", "hostPath type check failed: "+file+" is not a directory")
}
