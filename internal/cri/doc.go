// Package cri is the container runtime behind CRI v1: Pod sandboxes and containers, their streams, logs, statistics
// and events. It is called in-process (Local) or over gRPC (Serve), by the same code.
//
// A file is a CRI call. Beneath them are the records of what exists (store.go, kept on disk by persist.go and read
// back by restore.go), the Pods' shims (package shim), which do what must outlive this process, and the images, the
// network and the machine, which are interfaces (deps.go).
//
//	sandbox:    RunPodSandbox ─▶ Ready ─(StopPodSandbox, pause or shim dead, reboot)─▶ NotReady ─RemovePodSandbox─▶ gone
//	container:  CreateContainer ─▶ Created ─StartContainer─▶ Running ─(end, StopContainer)─▶ Exited ─RemoveContainer─▶ gone
//	                                  └──────(could not be started)──────────────────────▶ Exited (128, StartError)
package cri
