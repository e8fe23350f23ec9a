package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/sysctl"
)

// checker collects what is wrong with settings.
type checker struct{ problems []Problem }

// must notes a problem with a setting unless ok holds.
func (c *checker) must(ok bool, field, format string, args ...any) {
	if !ok {
		c.problems = append(c.problems, Problem{Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) notNegative(field string, value int64) {
	c.must(value >= 0, field, "%d must not be a negative number", value)
}

func (c *checker) port(field string, value int32) {
	c.must(value > 0 && value <= math.MaxUint16, field, "%d must be between 1 and 65535, inclusive", value)
}

func (c *checker) between(field string, value *int32, low, high int32) {
	c.must(value == nil || (*value >= low && *value <= high), field, "%d must be between %d and %d, inclusive", deref(value), low, high)
}

func (c *checker) oneOf(field, value string, options ...string) {
	c.must(slices.Contains(options, value), field, "%q must be one of: %q", value, options)
}

func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// validate returns what cannot be. The rules are those of Kubernetes' kubelet; to them come settings of
// what this node does not do, since to take them in silence would be a lie.
func validate(k *kubeletconfig.KubeletConfiguration, m Machine) []Problem {
	c := &checker{}
	c.numbers(k)
	c.images(k)
	c.logs(k)
	c.shutdown(k)
	c.addresses(k)
	c.static(k)
	c.reservations(k)
	c.eviction(k)
	c.policies(k)
	c.unsupported(k)
	c.fits(k, m)
	return c.problems
}

func (c *checker) numbers(k *kubeletconfig.KubeletConfiguration) {
	c.must(k.NodeLeaseDurationSeconds > 0, "nodeLeaseDurationSeconds", "must be greater than 0")
	c.notNegative("eventBurst", int64(k.EventBurst))
	c.notNegative("eventRecordQPS", int64(*k.EventRecordQPS))
	c.notNegative("kubeAPIBurst", int64(k.KubeAPIBurst))
	c.notNegative("kubeAPIQPS", int64(*k.KubeAPIQPS))
	c.notNegative("maxOpenFiles", k.MaxOpenFiles)
	c.notNegative("maxPods", int64(k.MaxPods))
	c.notNegative("podsPerCore", int64(k.PodsPerCore))
	c.must(*k.NodeStatusMaxImages >= -1, "nodeStatusMaxImages", "%d must be -1 or greater", *k.NodeStatusMaxImages)
	c.between("oomScoreAdj", k.OOMScoreAdj, -1000, 1000)
	c.between("iptablesDropBit", k.IPTablesDropBit, 0, 31)
	c.between("iptablesMasqueradeBit", k.IPTablesMasqueradeBit, 0, 31)
	c.port("port", k.Port)
	if *k.HealthzPort != 0 {
		c.port("healthzPort", *k.HealthzPort)
	}
	period := k.CPUCFSQuotaPeriod.Duration
	c.must(period >= time.Millisecond && period <= time.Second, "cpuCFSQuotaPeriod", "%v must be between 1ms and 1sec, inclusive", period)
	if f := k.MemoryThrottlingFactor; f != nil {
		c.must(*f > 0 && *f <= 1, "memoryThrottlingFactor", "%v must be greater than 0 and less than or equal to 1.0", *f)
	}
	back := k.CrashLoopBackOff.MaxContainerRestartPeriod.Duration
	c.must(back >= time.Second && back <= 5*time.Minute, "crashLoopBackOff.maxContainerRestartPeriod", "%v must be set between 1s and 300s", back)
	if u := k.UserNamespaces; u != nil && u.IDsPerPod != nil {
		c.must(*u.IDsPerPod >= 65536 && *u.IDsPerPod%65536 == 0 && *u.IDsPerPod <= math.MaxUint32, "userNamespaces.idsPerPod",
			"%d must be a multiple of 65536 and not more than %d", *u.IDsPerPod, uint32(math.MaxUint32))
	}
	for field, d := range map[string]metav1.Duration{
		"fileCheckFrequency": k.FileCheckFrequency, "httpCheckFrequency": k.HTTPCheckFrequency, "nodeStatusUpdateFrequency": k.NodeStatusUpdateFrequency,
		"nodeStatusReportFrequency": k.NodeStatusReportFrequency, "syncFrequency": k.SyncFrequency, "evictionPressureTransitionPeriod": k.EvictionPressureTransitionPeriod,
	} {
		c.must(d.Duration > 0, field, "%v must be greater than 0", d.Duration)
	}
}

func (c *checker) images(k *kubeletconfig.KubeletConfiguration) {
	high, low := k.ImageGCHighThresholdPercent, k.ImageGCLowThresholdPercent
	c.between("imageGCHighThresholdPercent", high, 0, 100)
	c.between("imageGCLowThresholdPercent", low, 0, 100)
	c.must(*low < *high, "imageGCLowThresholdPercent", "%d must be less than imageGCHighThresholdPercent %d", *low, *high)
	least, most := k.ImageMinimumGCAge.Duration, k.ImageMaximumGCAge.Duration
	c.must(least >= 0, "imageMinimumGCAge", "%v must not be negative", least)
	c.must(most >= 0, "imageMaximumGCAge", "%v must not be negative", most)
	c.must(most <= 0 || most > least, "imageMaximumGCAge", "%v must be greater than imageMinimumGCAge %v", most, least)
	c.notNegative("registryBurst", int64(k.RegistryBurst))
	c.notNegative("registryPullQPS", int64(*k.RegistryPullQPS))
	if n := k.MaxParallelImagePulls; n != nil {
		c.must(*n >= 1, "maxParallelImagePulls", "%d must be a positive number", *n)
		c.must(*n <= 1 || !*k.SerializeImagePulls, "maxParallelImagePulls", "cannot be larger than 1 unless serializeImagePulls is set to false")
	}
	c.oneOf("imagePullCredentialsVerificationPolicy", string(k.ImagePullCredentialsVerificationPolicy), string(kubeletconfig.NeverVerify),
		string(kubeletconfig.NeverVerifyPreloadedImages), string(kubeletconfig.NeverVerifyAllowlistedImages), string(kubeletconfig.AlwaysVerify))
}

func (c *checker) logs(k *kubeletconfig.KubeletConfiguration) {
	size, err := resource.ParseQuantity(k.ContainerLogMaxSize)
	c.must(err == nil && size.Sign() > 0, "containerLogMaxSize", "%q must be a positive quantity, like 10Mi", k.ContainerLogMaxSize)
	c.must(*k.ContainerLogMaxFiles > 1, "containerLogMaxFiles", "must be greater than 1")
	c.must(*k.ContainerLogMaxWorkers >= 1, "containerLogMaxWorkers", "must be greater than or equal to 1")
	c.must(k.ContainerLogMonitorInterval.Duration >= 3*time.Second, "containerLogMonitorInterval", "must be a positive time duration greater than or equal to 3s")
	dir := k.PodLogsDir
	c.must(filepath.Clean(dir) == dir, "podLogsDir", "pod logs path %q must be normalized", dir)
	c.must(!strings.ContainsFunc(dir, func(r rune) bool { return r > 127 }), "podLogsDir", "pod logs path %q must contain ASCII characters only", dir)
}

func (c *checker) shutdown(k *kubeletconfig.KubeletConfiguration) {
	all, critical := k.ShutdownGracePeriod.Duration, k.ShutdownGracePeriodCriticalPods.Duration
	c.must(critical <= all, "shutdownGracePeriodCriticalPods", "%v must be <= shutdownGracePeriod %v", critical, all)
	for field, d := range map[string]time.Duration{"shutdownGracePeriod": all, "shutdownGracePeriodCriticalPods": critical} {
		c.must(d == 0 || d >= time.Second, field, "%v must be either zero or otherwise >= 1 sec", d)
	}
	c.must(len(k.ShutdownGracePeriodByPodPriority) == 0 || (all == 0 && critical == 0), "shutdownGracePeriodByPodPriority",
		"cannot be specified together with shutdownGracePeriod")
	for i, p := range k.ShutdownGracePeriodByPodPriority {
		c.must(p.ShutdownGracePeriodSeconds >= 0, fmt.Sprintf("shutdownGracePeriodByPodPriority[%d].shutdownGracePeriodSeconds", i),
			"%d must not be a negative number", p.ShutdownGracePeriodSeconds)
	}
}

func (c *checker) addresses(k *kubeletconfig.KubeletConfiguration) {
	c.must(net.ParseIP(k.Address) != nil, "address", "%q must be an IP address", k.Address)
	for i, ip := range k.ClusterDNS {
		c.must(net.ParseIP(ip) != nil, fmt.Sprintf("clusterDNS[%d]", i), "%q must be an IP address", ip)
	}
	if k.ClusterDomain != "" {
		problems := validation.IsDNS1123Subdomain(strings.TrimSuffix(k.ClusterDomain, "."))
		c.must(len(problems) == 0, "clusterDomain", "%q: %s", k.ClusterDomain, strings.Join(problems, "; "))
	}
}

func (c *checker) static(k *kubeletconfig.KubeletConfiguration) {
	if k.StaticPodURL == "" {
		c.must(len(k.StaticPodURLHeader) == 0, "staticPodURLHeader", "needs a staticPodURL")
		return
	}
	u, err := url.Parse(k.StaticPodURL)
	c.must(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "staticPodURL", "%q must be an http or https URL", k.StaticPodURL)
}

func (c *checker) reservations(k *kubeletconfig.KubeletConfiguration) {
	for field, list := range map[string]map[string]string{"kubeReserved": k.KubeReserved, "systemReserved": k.SystemReserved} {
		for name, text := range list {
			at := field + "." + name
			c.must(slices.Contains([]string{"cpu", "memory", "ephemeral-storage", "pid"}, name), at, "cannot reserve %q resource", name)
			q, err := resource.ParseQuantity(text)
			c.must(err == nil, at, "%q must be a quantity", text)
			c.must(q.Sign() >= 0, at, "resource quantity for %q cannot be negative: %s", name, text)
		}
	}
	for i, taint := range k.RegisterWithTaints {
		c.taint(fmt.Sprintf("registerWithTaints[%d]", i), taint)
	}
	c.enforcements(k)
}

func (c *checker) taint(field string, t v1.Taint) {
	problems := validation.IsQualifiedName(t.Key)
	if t.Value != "" {
		problems = append(problems, validation.IsValidLabelValue(t.Value)...)
	}
	effects := []v1.TaintEffect{v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute}
	c.must(len(problems) == 0 && slices.Contains(effects, t.Effect), field, "invalid taint: %s", t.ToString())
	c.must(t.TimeAdded == nil, field, "taint.TimeAdded is not nil")
}

func (c *checker) enforcements(k *kubeletconfig.KubeletConfiguration) {
	const field = "enforceNodeAllocatable"
	seen := map[string]bool{}
	for i, value := range k.EnforceNodeAllocatable {
		at := fmt.Sprintf("%s[%d]", field, i)
		c.must(!seen[value], at, "duplicated enforcement %q", value)
		seen[value] = true
		c.oneOf(at, value, "pods", "none")
	}
	c.must(!seen["none"] || len(k.EnforceNodeAllocatable) == 1, field, "may not contain additional enforcements when %q is specified", "none")
}

// signals are what eviction thresholds are about.
var signals = []string{
	"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree",
	"containerfs.available", "containerfs.inodesFree", "allocatableMemory.available", "pid.available",
}

func (c *checker) eviction(k *kubeletconfig.KubeletConfiguration) {
	for field, thresholds := range map[string]map[string]string{"evictionHard": k.EvictionHard, "evictionSoft": k.EvictionSoft, "evictionMinimumReclaim": k.EvictionMinimumReclaim} {
		for signal, text := range thresholds {
			at := field + "." + signal
			c.must(slices.Contains(signals, signal), at, "unsupported eviction signal %v", signal)
			c.threshold(at, text, field == "evictionMinimumReclaim")
		}
	}
	for signal := range k.EvictionSoft {
		c.must(k.EvictionSoftGracePeriod[signal] != "", "evictionSoft."+signal, "grace period must be specified for the soft eviction threshold %v", signal)
	}
	for signal, text := range k.EvictionSoftGracePeriod {
		d, err := time.ParseDuration(text)
		c.must(err == nil && d >= 0, "evictionSoftGracePeriod."+signal, "%q must be a duration that is not negative", text)
	}
}

func (c *checker) threshold(field, text string, mayBeZero bool) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		value, err := strconv.ParseFloat(percent, 64)
		c.must(err == nil && value >= 0 && value <= 100, field, "%q must be between 0%% and 100%%", text)
		return
	}
	q, err := resource.ParseQuantity(text)
	c.must(err == nil && (q.Sign() > 0 || (mayBeZero && q.Sign() == 0)), field, "%q must be a positive quantity or a percentage", text)
}

func (c *checker) policies(k *kubeletconfig.KubeletConfiguration) {
	c.oneOf("hairpinMode", k.HairpinMode, kubeletconfig.HairpinNone, kubeletconfig.HairpinVeth, kubeletconfig.PromiscuousBridge)
	c.oneOf("memorySwap.swapBehavior", k.MemorySwap.SwapBehavior, "", "LimitedSwap", "NoSwap")
	c.oneOf("memoryReservationPolicy", string(k.MemoryReservationPolicy), string(kubeletconfig.NoneMemoryReservationPolicy), string(kubeletconfig.TieredReservationMemoryReservationPolicy))
	c.oneOf("topologyManagerScope", k.TopologyManagerScope, kubeletconfig.ContainerTopologyManagerScope, kubeletconfig.PodTopologyManagerScope)
	c.oneOf("authorization.mode", string(k.Authorization.Mode), string(kubeletconfig.KubeletAuthorizationModeAlwaysAllow), string(kubeletconfig.KubeletAuthorizationModeWebhook))
	if _, err := sysctl.New(k.AllowedUnsafeSysctls, ""); err != nil {
		c.must(false, "allowedUnsafeSysctls", "%v", err)
	}
	c.must(!k.RunOnce, "runOnce", "Runonce mode has been deprecated and should not be set")
}

// unsupported refuses settings for which this node has nothing.
func (c *checker) unsupported(k *kubeletconfig.KubeletConfiguration) {
	only := func(field, value, supported string) {
		c.must(value == supported, field, "%q is not supported by this node; use %q or leave the setting out", value, supported)
	}
	c.must(k.ReadOnlyPort == 0, "readOnlyPort", "%d is not supported by this node, which serves nobody without asking who it is; use 0 or leave the setting out", k.ReadOnlyPort)
	only("cgroupDriver", k.CgroupDriver, "cgroupfs")
	only("cpuManagerPolicy", k.CPUManagerPolicy, "none")
	only("memoryManagerPolicy", k.MemoryManagerPolicy, kubeletconfig.NoneMemoryManagerPolicy)
	only("topologyManagerPolicy", k.TopologyManagerPolicy, kubeletconfig.NoneTopologyManagerPolicy)
	c.must(*k.RegisterNode, "registerNode", "false is not supported by this node: it makes its Node object itself")
	c.must(*k.EnableServer, "enableServer", "false is not supported by this node: logs and exec go through its server")
	c.must(*k.CgroupsPerQOS, "cgroupsPerQOS", "false is not supported by this node: Pods always live in the cgroups of their class")
	c.must(k.ReservedSystemCPUs == "", "reservedSystemCPUs", "is not supported by this node; leave the setting out")
	c.must(len(k.ReservedMemory) == 0, "reservedMemory", "is not supported by this node; leave the setting out")
	c.must(len(k.QOSReserved) == 0, "qosReserved", "is not supported by this node; leave the setting out")
	c.must(!k.ServerTLSBootstrap, "serverTLSBootstrap", "is not supported by this node: its certificate comes from the cluster's own authority")
}

// fits refuses what this machine cannot keep, as the kubelet does when it starts.
func (c *checker) fits(k *kubeletconfig.KubeletConfiguration, m Machine) {
	c.must(!*k.FailSwapOn || m.Swap == 0, "failSwapOn",
		"running with swap on is not supported unless the setting is false: turn it off with swapoff -a, or set failSwapOn: false")
	for name, capacity := range m.Capacity {
		var sum resource.Quantity
		field := ""
		for at, list := range map[string]map[string]string{"kubeReserved": k.KubeReserved, "systemReserved": k.SystemReserved} {
			if q, err := resource.ParseQuantity(list[string(name)]); err == nil {
				sum.Add(q)
				field = max(field, at) // one of them, the same each time
			}
		}
		c.must(sum.Cmp(capacity) <= 0, field+"."+string(name), "resource %q has a reservation of %s but capacity of %s; expected capacity >= reservation",
			name, sum.String(), capacity.String())
	}
}
