package object

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// trustBundles is the one watch of all ClusterTrustBundles, there while a Pod shows any: which ones those of a signer
// are, their labels say, and these change.
var trustBundles = key{kind: KindClusterTrustBundle}

// TrustAnchors returns the certificates that a registered Pod's projection names, as PEM blocks: each once, without
// what stands between them, and in no order. It waits for the first answer of the API server. That nothing is there is
// an error unless the projection is optional.
func (s *Store) TrustAnchors(ctx context.Context, p *v1.ClusterTrustBundleProjection) ([]byte, error) {
	if s.client == nil {
		return nil, errors.New("ClusterTrustBundle projection is not supported in static kubelet mode")
	}
	objects, err := s.read(ctx, trustBundles)
	if err != nil {
		return nil, err
	}
	bundles := make([]*certificatesv1.ClusterTrustBundle, 0, len(objects))
	for _, o := range objects {
		bundles = append(bundles, o.(*certificatesv1.ClusterTrustBundle))
	}
	optional := p.Optional != nil && *p.Optional
	if p.Name != nil {
		return named(bundles, *p.Name, optional)
	}
	if p.SignerName != nil {
		return signedBy(bundles, *p.SignerName, p.LabelSelector, optional)
	}
	return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
}

func named(bundles []*certificatesv1.ClusterTrustBundle, name string, optional bool) ([]byte, error) {
	i := slices.IndexFunc(bundles, func(b *certificatesv1.ClusterTrustBundle) bool { return b.Name == name })
	switch {
	case i >= 0:
		return anchors(bundles[i : i+1]), nil
	case optional:
		return nil, nil
	}
	missing := apierrors.NewNotFound(schema.GroupResource{Group: certificatesv1.GroupName, Resource: "clustertrustbundle"}, name)
	return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", missing)
}

func signedBy(bundles []*certificatesv1.ClusterTrustBundle, signer string, which *metav1.LabelSelector, optional bool) ([]byte, error) {
	selector, err := metav1.LabelSelectorAsSelector(which) // none selects nothing, an empty one everything
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	bundles = slices.DeleteFunc(bundles, func(b *certificatesv1.ClusterTrustBundle) bool {
		return b.Spec.SignerName != signer || !selector.Matches(labels.Set(b.Labels))
	})
	if len(bundles) == 0 && !optional {
		return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return anchors(bundles), nil
}

// anchors are the certificates of bundles, each once. Nobody is to rely on their order, so it is another each time the
// daemon starts, and the same as long as it runs: what has not changed is not written again.
func anchors(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	found := map[string]bool{}
	for _, b := range bundles {
		block, rest := pem.Decode([]byte(b.Spec.TrustBundle))
		for block != nil {
			found[string(block.Bytes)] = true
			block, rest = pem.Decode(rest)
		}
	}
	list := slices.Sorted(maps.Keys(found))
	shuffle := rand.New(rand.NewPCG(order, order))
	shuffle.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var out []byte
	for _, certificate := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(certificate)})...)
	}
	return out
}

// order is what the order of certificates is made from.
var order = rand.Uint64()
