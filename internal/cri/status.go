package cri

import (
	"context"
	"encoding/json"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtimeName is what the runtime calls itself; nodes show it as "podium://VERSION".
const runtimeName = "podium"

// criVersion is CRI's, kubeVersion that of its predecessor's field, which clients check.
const (
	criVersion  = "v1"
	kubeVersion = "0.1.0"
)

// Version says who this is.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	version := r.cfg.Version
	if version == "" {
		version = "devel"
	}
	return &runtimeapi.VersionResponse{
		Version: kubeVersion, RuntimeName: runtimeName, RuntimeVersion: version, RuntimeApiVersion: criVersion,
	}, nil
}

// Status reports whether Pods can be run, and what the runtime can do.
func (r *Runtime) Status(_ context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	net := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if err := r.cfg.Network.Ready(); err != nil {
		net.Status, net.Reason, net.Message = false, "NetworkPluginNotReady", "Network plugin returns error: "+err.Error()
	}
	out := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{{Type: runtimeapi.RuntimeReady, Status: true}, net}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{{
			Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: r.host.RecursiveReadOnly},
		}},
		Features: &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true, MountOptions: true},
	}
	if req.GetVerbose() {
		info, err := json.Marshal(map[string]any{
			"sandboxes": len(r.store.allSandboxes()), "containers": len(r.store.allContainers()),
			"cgroupV2": r.host.CgroupV2, "appArmor": r.host.AppArmor, "seccomp": r.host.Seccomp, "capabilities": r.host.Capabilities,
		})
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(info)}
	}
	return out, nil
}

// RuntimeConfig tells the node agent how cgroups are to be named.
func (r *Runtime) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig takes the node's Pod CIDR, which the network was given already.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
