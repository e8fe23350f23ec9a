package services

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// numbered is the n-th of many Services, with its slice of two endpoints.
func numbered(n, port int) (*corev1.Service, *discoveryv1.EndpointSlice) {
	name := fmt.Sprintf("web-%d", n)
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(n), 0))},
		Spec: corev1.ServiceSpec{
			ClusterIP: fmt.Sprintf("10.%d.%d.%d", 96+n>>16, n>>8&0xff, n&0xff),
			Ports:     []corev1.ServicePort{{Port: 80}},
		},
	}
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr.To(int32(port))}},
	}
	for _, half := range []int{0, 128} {
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 128+n>>14, n>>7&0x7f, half+n&0x7f)}, NodeName: ptr.To("elsewhere")})
	}
	return s, sl
}

// BenchmarkMany shows what many Services cost: all at once ("first"), a change of one endpoint of one of them
// ("change"), a new start with all in the table already ("restart"), and the memory.
func BenchmarkMany(b *testing.B) {
	needRoot(b)
	for _, count := range []int{1000, 10000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			open := func() *Proxy {
				p := New(Config{ID: "bench", Node: "here", Pods: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/10")}, Clock: clock.RealClock{}})
				p.slicesStarted, p.zoneStarted = true, true
				p.setServices(nil)
				p.setSlices(nil)
				for n := range count {
					s, sl := numbered(n, 8080)
					p.putService(s)
					p.putSlice(sl, true)
				}
				return p
			}
			b.Cleanup(func() { check(b, Remove("bench")) })
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			p := open()
			start := time.Now()
			check(b, p.sync(b.Context()))
			first := time.Since(start)
			runtime.GC()
			runtime.ReadMemStats(&after)
			changes, change := 0, time.Duration(0)
			used := cpuTime(b)
			for b.Loop() {
				changes++
				_, sl := numbered(count/2, 8080)
				if changes%2 == 1 {
					sl.Endpoints = sl.Endpoints[:1]
				}
				start := time.Now()
				p.putSlice(sl, true)
				check(b, p.sync(b.Context()))
				change += time.Since(start)
			}
			b.ReportMetric(float64((cpuTime(b)-used).Microseconds())/float64(changes)/1000, "cpu-ms/change")
			again := open()
			start = time.Now()
			check(b, again.sync(b.Context()))
			b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/restart")
			b.ReportMetric(float64(first.Milliseconds()), "ms/first")
			b.ReportMetric(float64(change.Microseconds())/float64(changes)/1000, "ms/change")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(count), "heapB/service")
			runtime.KeepAlive(p)
		})
	}
}

// cpuTime is what the process has used, in its own code and in the kernel: on a busy machine it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
