package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// clusterName is the name of the cluster in kubeconfigs.
const clusterName = "podium"

// Kubeconfig returns a kubeconfig that reaches the API server at a URL as somebody.
func (a *Authority) Kubeconfig(who Identity, url string) ([]byte, error) {
	cert, key, err := a.Client(who).PEM()
	if err != nil {
		return nil, err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[clusterName] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: a.bundle}
	cfg.AuthInfos[who.User] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	context := who.User + "@" + clusterName
	cfg.Contexts[context] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: who.User}
	cfg.CurrentContext = context
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("write the kubeconfig of %s: %w", who.User, err)
	}
	return data, nil
}

// KeepKubeconfig writes a kubeconfig, 0600, unless the one that is there still serves: same URL, same CA,
// same user, and less than two thirds of its life over. It returns when to call it again.
func (a *Authority) KeepKubeconfig(file string, who Identity, url string) (next time.Time, err error) {
	if next, ok := a.stillServes(file, who, url); ok {
		return next, nil
	}
	data, err := a.Kubeconfig(who, url)
	if err != nil {
		return time.Time{}, err
	}
	if err := writeFile(file, data, 0o600); err != nil {
		return time.Time{}, err
	}
	next, _ = a.stillServes(file, who, url)
	return next, nil
}

func (a *Authority) stillServes(file string, who Identity, url string) (renewAt time.Time, ok bool) {
	cfg, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return time.Time{}, false
	}
	cluster, auth := cfg.Clusters[clusterName], cfg.AuthInfos[who.User]
	if cluster == nil || auth == nil || cluster.Server != url || !bytes.Equal(cluster.CertificateAuthorityData, a.bundle) {
		return time.Time{}, false
	}
	pair, err := tls.X509KeyPair(auth.ClientCertificateData, auth.ClientKeyData)
	if err != nil {
		return time.Time{}, false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || leaf.Subject.CommonName != who.User {
		return time.Time{}, false
	}
	renewAt = renewal(leaf)
	return renewAt, a.clock.Now().Before(renewAt)
}
