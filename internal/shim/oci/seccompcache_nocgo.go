//go:build cgo && !seccomp

package oci

// useSeccompCache has nothing to do: without libseccomp no profile is compiled.
func useSeccompCache(int) {}
