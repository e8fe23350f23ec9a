package apiserver

import (
	"context"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/server/healthz"
)

// etcdTimeout is how long etcd may take to answer before it counts as not well.
const etcdTimeout = 2 * time.Second

// etcdChecks are the checks of /healthz, /livez and /readyz, and the one of /readyz alone, with the names
// that kube-apiserver has them under.
func etcdChecks(client *kubernetes.Client) (health, ready healthz.HealthChecker) {
	ask := func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), etcdTimeout)
		defer cancel()
		_, err := client.KV.Get(ctx, storePrefix+"/health")
		return err
	}
	return healthz.NamedCheck("etcd", ask), healthz.NamedCheck("etcd-readiness", ask)
}
