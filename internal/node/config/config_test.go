package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/paths"
)

const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadFile(path string) (*kubeletconfig.KubeletConfiguration, error) {
	return load(path, Machine{}, func(*kubeletconfig.KubeletConfiguration) {})
}

func TestDefaults(t *testing.T) {
	c, err := loadFile(write(t, head))
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"port": c.Port == 10250, "maxPods": c.MaxPods == 110, "fileCheckFrequency": c.FileCheckFrequency.Duration == 20*time.Second,
		"podLogsDir": c.PodLogsDir == "/var/log/pods", "evictionHard": c.EvictionHard["memory.available"] == "100Mi", "podPidsLimit": *c.PodPidsLimit == -1,
		"serializeImagePulls": *c.SerializeImagePulls, "nodeStatusReportFrequency": c.NodeStatusReportFrequency.Duration == 5*time.Minute,
		"failCgroupV1": !*c.FailCgroupV1, "staticPodPath": c.StaticPodPath == "", "crashLoopBackOff": c.CrashLoopBackOff.MaxContainerRestartPeriod.Duration == 5*time.Minute,
	} {
		if !ok {
			t.Errorf("the default of %s is another", what)
		}
	}
}

func TestDefaultsThatFollow(t *testing.T) {
	path := write(t, head+"maxParallelImagePulls: 4\nnodeStatusUpdateFrequency: 3s\nstaticPodPath: manifests\nevictionHard: {pid.available: 5%}\n")
	c, err := loadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if *c.SerializeImagePulls || c.NodeStatusReportFrequency.Duration != 3*time.Second || c.StaticPodPath != filepath.Join(filepath.Dir(path), "manifests") || len(c.EvictionHard) != 1 {
		t.Errorf("%v %v %s %v", *c.SerializeImagePulls, c.NodeStatusReportFrequency, c.StaticPodPath, c.EvictionHard)
	}
	c, err = loadFile(write(t, head+"mergeDefaultEvictionSettings: true\nevictionHard: {pid.available: 5%}\n"))
	if err != nil || len(c.EvictionHard) != 6 {
		t.Errorf("%v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct{ content, want string }{
		{"", "F: the file is empty; remove it, and it is written again with the defaults"},
		{"- a\n", "F:1: a KubeletConfiguration is a mapping of settings"},
		{"kind: x\n", "F: apiVersion: must be \"kubelet.config.k8s.io/v1beta1\"\nF:1: kind: must be \"KubeletConfiguration\""},
		{head + "a: b: c\n", "F:3: mapping values are not allowed in this context"},
		{head + "maxPods: 5\nmaxPods: 6\n", "F:4: maxPods: is set already in line 3"},
		{head + "MaxPods: 5\n", "F:3: MaxPods: there is no such setting"},
		{head + "authentication:\n  anonymous:\n    enable: true\n", "F:5: authentication.anonymous.enable: there is no such setting"},
		{head + "maxPods: many\n", "F:3: maxPods: must be of type int32, not string"},
		{head + "port: 10250\nclusterDNS: 1.2.3.4\n", "F:4: clusterDNS: must be of type []string, not string"},
		{head + "fileCheckFrequency: soon\n", "F:3: fileCheckFrequency: time: invalid duration \"soon\""},
		{head + "maxPods: -1\nport: 70000\n", "F:3: maxPods: -1 must not be a negative number\nF:4: port: 70000 must be between 1 and 65535, inclusive"},
		{head + "imageGCLowThresholdPercent: 90\n", "F:3: imageGCLowThresholdPercent: 90 must be less than imageGCHighThresholdPercent 85"},
		{head + "clusterDNS:\n- 1.2.3.4\n- dns\n", "F:5: clusterDNS[1]: \"dns\" must be an IP address"},
		{head + "evictionHard:\n  memory.available: 110%\n", "F:4: evictionHard.memory.available: \"110%\" must be between 0% and 100%"},
		{head + "evictionSoft:\n  memory.available: 1Gi\n", "F:4: evictionSoft.memory.available: grace period must be specified for the soft eviction threshold memory.available"},
		{head + "evictionHard: {disk: 1Gi}\n", "F:3: evictionHard.disk: unsupported eviction signal disk"},
		{head + "kubeReserved: {cpu: lots}\n", "F:3: kubeReserved.cpu: \"lots\" must be a quantity"},
		{head + "systemReserved: {gpu: \"1\"}\n", "F:3: systemReserved.gpu: cannot reserve \"gpu\" resource"},
		{head + "cpuManagerPolicy: static\n", "F:3: cpuManagerPolicy: \"static\" is not supported by this node; use \"none\" or leave the setting out"},
		{head + "maxParallelImagePulls: 2\nserializeImagePulls: true\n", "F:3: maxParallelImagePulls: cannot be larger than 1 unless serializeImagePulls is set to false"},
		{head + "staticPodURL: somewhere\n", "F:3: staticPodURL: \"somewhere\" must be an http or https URL"},
		{head + "containerLogMaxFiles: 1\ncontainerLogMaxSize: big\n", "F:3: containerLogMaxFiles: must be greater than 1\nF:4: containerLogMaxSize: \"big\" must be a positive quantity, like 10Mi"},
		{head + "registerWithTaints:\n- key: a\n  effect: Never\n", "F:4: registerWithTaints[0]: invalid taint: a:Never"},
		{head + "shutdownGracePeriod: 5s\nshutdownGracePeriodCriticalPods: 10s\n", "F:4: shutdownGracePeriodCriticalPods: 10s must be <= shutdownGracePeriod 5s"},
		{head + "crashLoopBackOff:\n  maxContainerRestartPeriod: 1h\n", "F:4: crashLoopBackOff.maxContainerRestartPeriod: 1h0m0s must be set between 1s and 300s"},
		{head + "allowedUnsafeSysctls: [kernel.msg*, vm.swappiness]\n", "F:3: allowedUnsafeSysctls: the sysctls \"vm.swappiness\" are not known to be namespaced"},
		{head + "readOnlyPort: 10255\n", "F:3: readOnlyPort: 10255 is not supported by this node, which serves nobody without asking who it is; use 0 or leave the setting out"},
		{head + "enforceNodeAllocatable: [pods, none]\n", "F:3: enforceNodeAllocatable: may not contain additional enforcements when \"none\" is specified"},
	} {
		path := write(t, tc.content)
		_, err := loadFile(path)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", tc.content, err)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), path, "F"); got != tc.want {
			t.Errorf("%q:\ngot  %s\nwant %s", tc.content, got, tc.want)
		}
	}
	if _, err := loadFile("/none"); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestSpare(t *testing.T) {
	for disk, want := range map[string]string{"0": "1Gi", "1500Mi": "75Mi", "8Gi": "409Mi", "250Gi": "1Gi"} {
		p := paths.For(t.TempDir())
		c, err := Ensure(p, Values{}, Machine{Capacity: v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(disk)}})
		if err != nil {
			t.Fatal(err)
		}
		if c.EvictionHard["nodefs.available"] != want || c.EvictionHard["imagefs.available"] != want {
			t.Errorf("of %s are kept free: %v, want %s", disk, c.EvictionHard, want)
		}
	}
}

func TestEnsure(t *testing.T) {
	p := paths.For(t.TempDir())
	c, err := Ensure(p, Values{ClusterDomain: "cluster.local", ClusterDNS: []string{"10.96.0.10"}, Port: 10350}, Machine{})
	if err != nil {
		t.Fatal(err)
	}
	if c.StaticPodPath != p.Manifests || c.PodLogsDir != p.PodLogs || c.Port != 10350 || c.ClusterDNS[0] != "10.96.0.10" || !*c.SeccompDefault || *c.SerializeImagePulls {
		t.Errorf("%+v", c)
	}
	if err := os.WriteFile(p.KubeletConfig, fmt.Appendf(nil, "%smaxPods: 7\n", head), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Ensure(p, Values{}, Machine{}); err != nil || c.MaxPods != 7 || c.StaticPodPath != "" || c.PodLogsDir != p.PodLogs {
		t.Errorf("the user's file was not kept: %v, %v", c, err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.Kubelet, ".config-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
