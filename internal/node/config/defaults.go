package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// defaultEvictionHard is when Pods are evicted at once, unless the settings say otherwise.
var defaultEvictionHard = map[string]string{
	"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
}

// SetDefaults fills in what the settings leave open, as Kubernetes v1.37 does, but for two: this node runs on
// cgroup v1 too, and its runtime is its own.
func SetDefaults(c *kubeletconfig.KubeletConfiguration) {
	defaultServer(c)
	defaultNode(c)
	defaultImages(c)
	defaultPods(c)
	defaultEviction(c)
	defaultPolicies(c)
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
}

// set fills in a value that is zero.
func set[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}

// point fills in a pointer that is nil.
func point[T any](at **T, value T) {
	if *at == nil {
		*at = &value
	}
}

func duration(at *metav1.Duration, value time.Duration) { set(&at.Duration, value) }

func defaultServer(c *kubeletconfig.KubeletConfiguration) {
	point(&c.EnableServer, true)
	set(&c.Address, "0.0.0.0")
	set(&c.Port, 10250)
	point(&c.Authentication.Anonymous.Enabled, false)
	point(&c.Authentication.Webhook.Enabled, true)
	duration(&c.Authentication.Webhook.CacheTTL, 2*time.Minute)
	set(&c.Authorization.Mode, kubeletconfig.KubeletAuthorizationModeWebhook)
	duration(&c.Authorization.Webhook.CacheAuthorizedTTL, 5*time.Minute)
	duration(&c.Authorization.Webhook.CacheUnauthorizedTTL, 30*time.Second)
	point(&c.EnableDebuggingHandlers, true)
	point(&c.EnableProfilingHandler, true)
	point(&c.EnableDebugFlagsHandler, true)
	point(&c.EnableSystemLogHandler, true)
	point(&c.HealthzPort, 10248)
	set(&c.HealthzBindAddress, "127.0.0.1")
	duration(&c.StreamingConnectionIdleTimeout, 4*time.Hour)
	set(&c.ContentType, "application/vnd.kubernetes.protobuf")
	point(&c.KubeAPIQPS, 50)
	set(&c.KubeAPIBurst, 100)
	point(&c.EventRecordQPS, 50)
	set(&c.EventBurst, 100)
	set(&c.MaxOpenFiles, 1000000)
	point(&c.OOMScoreAdj, -999)
}

func defaultNode(c *kubeletconfig.KubeletConfiguration) {
	point(&c.RegisterNode, true)
	if c.NodeStatusUpdateFrequency.Duration != 0 {
		duration(&c.NodeStatusReportFrequency, c.NodeStatusUpdateFrequency.Duration)
	}
	duration(&c.NodeStatusReportFrequency, 5*time.Minute)
	duration(&c.NodeStatusUpdateFrequency, 10*time.Second)
	set(&c.NodeLeaseDurationSeconds, 40)
	point(&c.NodeStatusMaxImages, 50)
	set(&c.MaxPods, 110)
	duration(&c.SyncFrequency, time.Minute)
	duration(&c.VolumeStatsAggPeriod, time.Minute)
	point(&c.EnableControllerAttachDetach, true)
	point(&c.LocalStorageCapacityIsolation, true)
	set(&c.VolumePluginDir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")
	point(&c.FailSwapOn, true)
	point(&c.FailCgroupV1, false)
	if len(c.EnforceNodeAllocatable) == 0 && c.EnforceNodeAllocatable == nil {
		c.EnforceNodeAllocatable = []string{"pods"}
	}
}

func defaultImages(c *kubeletconfig.KubeletConfiguration) {
	point(&c.RegistryPullQPS, 5)
	set(&c.RegistryBurst, 10)
	duration(&c.ImageMinimumGCAge, 2*time.Minute)
	point(&c.ImageGCHighThresholdPercent, 85)
	point(&c.ImageGCLowThresholdPercent, 80)
	// Who allows several pulls at once does not have to say so twice.
	point(&c.SerializeImagePulls, c.MaxParallelImagePulls == nil || *c.MaxParallelImagePulls < 2)
	set(&c.ImagePullCredentialsVerificationPolicy, kubeletconfig.NeverVerifyPreloadedImages)
	duration(&c.RuntimeRequestTimeout, 2*time.Minute)
}

func defaultPods(c *kubeletconfig.KubeletConfiguration) {
	duration(&c.FileCheckFrequency, 20*time.Second)
	duration(&c.HTTPCheckFrequency, 20*time.Second)
	set(&c.PodLogsDir, "/var/log/pods")
	set(&c.ContainerLogMaxSize, "10Mi")
	point(&c.ContainerLogMaxFiles, 5)
	point(&c.ContainerLogMaxWorkers, 1)
	point(&c.ContainerLogMonitorInterval, metav1.Duration{Duration: 10 * time.Second})
	point(&c.ResolverConfig, "/etc/resolv.conf")
	point(&c.SeccompDefault, false)
	point(&c.CrashLoopBackOff.MaxContainerRestartPeriod, metav1.Duration{Duration: 5 * time.Minute})
	set(&c.ConfigMapAndSecretChangeDetectionStrategy, kubeletconfig.WatchChangeDetectionStrategy)
	// A negative limit means none.
	if c.PodPidsLimit == nil || *c.PodPidsLimit < 0 {
		none := int64(-1)
		c.PodPidsLimit = &none
	}
}

// defaultEviction fills in the hard thresholds where none is set, or with mergeDefaultEvictionSettings those
// that are not.
func defaultEviction(c *kubeletconfig.KubeletConfiguration) {
	duration(&c.EvictionPressureTransitionPeriod, 5*time.Minute)
	point(&c.MergeDefaultEvictionSettings, false)
	if c.EvictionHard != nil && !*c.MergeDefaultEvictionSettings {
		return
	}
	if c.EvictionHard == nil {
		c.EvictionHard = map[string]string{}
	}
	for signal, threshold := range defaultEvictionHard {
		if _, ok := c.EvictionHard[signal]; !ok {
			c.EvictionHard[signal] = threshold
		}
	}
}

func defaultPolicies(c *kubeletconfig.KubeletConfiguration) {
	point(&c.CgroupsPerQOS, true)
	set(&c.CgroupDriver, "cgroupfs")
	point(&c.CPUCFSQuota, true)
	point(&c.CPUCFSQuotaPeriod, metav1.Duration{Duration: 100 * time.Millisecond})
	set(&c.CPUManagerPolicy, "none")
	duration(&c.CPUManagerReconcilePeriod, 10*time.Second)
	set(&c.MemoryManagerPolicy, kubeletconfig.NoneMemoryManagerPolicy)
	set(&c.TopologyManagerPolicy, kubeletconfig.NoneTopologyManagerPolicy)
	set(&c.TopologyManagerScope, kubeletconfig.ContainerTopologyManagerScope)
	set(&c.MemoryReservationPolicy, kubeletconfig.NoneMemoryReservationPolicy)
	set(&c.HairpinMode, kubeletconfig.PromiscuousBridge)
	point(&c.MakeIPTablesUtilChains, true)
	point(&c.IPTablesMasqueradeBit, 14)
	point(&c.IPTablesDropBit, 15)
}
