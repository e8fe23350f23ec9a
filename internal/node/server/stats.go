package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Stats is who measures the node and its Pods, when somebody asks.
type Stats interface {
	// Summary is what the node and its Pods use; with less it is processors and memory only.
	Summary(ctx context.Context, less bool) (*stats.Summary, error)
	// Node is the node's part of it.
	Node(ctx context.Context, less bool) (*stats.NodeStats, error)
}

// summary returns what the node and its Pods use. With only_cpu_and_memory no file is counted.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	less := false
	if text := r.URL.Query().Get("only_cpu_and_memory"); text != "" {
		var err error
		if less, err = strconv.ParseBool(text); err != nil {
			http.Error(w, fmt.Sprintf("parse only_cpu_and_memory: %v", err), http.StatusBadRequest)
			return
		}
	}
	out, err := s.c.Stats.Summary(r.Context(), less)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(r.Context(), w, out)
}

// nodeUse is what the node uses of processors and memory; nothing when that cannot be read.
func (s *Server) nodeUse(ctx context.Context) stats.NodeStats {
	out, err := s.c.Stats.Node(ctx, true)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot measure the node")
		return stats.NodeStats{}
	}
	return *out
}
