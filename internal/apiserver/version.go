package apiserver

import (
	goruntime "runtime"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// The release of Kubernetes that the API is that of.
const (
	Major      = "1"
	Minor      = "37"
	GitVersion = "v1.37.2"
)

// effectiveVersion says which Kubernetes the server is, whatever the build put into k8s.io/component-base.
type effectiveVersion struct{ compatibility.EffectiveVersion }

func newEffectiveVersion() effectiveVersion {
	return effectiveVersion{compatibility.NewEffectiveVersionFromString(Major+"."+Minor, "", "")}
}

// Info implements compatibility.EffectiveVersion: the answer of /version.
func (e effectiveVersion) Info() *version.Info {
	info := e.EffectiveVersion.Info()
	info.Major, info.Minor, info.GitVersion = Major, Minor, GitVersion
	info.GitTreeState = "clean"
	info.GoVersion, info.Compiler, info.Platform = goruntime.Version(), goruntime.Compiler, goruntime.GOOS+"/"+goruntime.GOARCH
	return info
}
