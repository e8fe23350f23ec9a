package job

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"

	"podium.dev/podium/internal/registry/kit"
)

// orphaning warns clients that delete a Job without a propagation policy: the Pods stay, as in the first
// version of the kind.
type orphaning struct {
	kit.Main
}

func warnOfOrphans(_ kit.Env, main kit.Main) rest.Storage { return &orphaning{main} }

// Delete implements rest.GracefulDeleter.
func (r *orphaning) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	warnOfDelete(ctx, options)
	return r.Main.Delete(ctx, name, validate, options)
}

// DeleteCollection implements rest.CollectionDeleter.
func (r *orphaning) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *internalversion.ListOptions) (runtime.Object, error) {
	warnOfDelete(ctx, options)
	return r.Main.DeleteCollection(ctx, validate, options, list)
}

func warnOfDelete(ctx context.Context, options *metav1.DeleteOptions) {
	if options == nil || options.PropagationPolicy != nil {
		return
	}
	//nolint:staticcheck // The deprecated field specifies it too.
	if options.OrphanDependents != nil {
		return
	}
	warning.AddWarning(ctx, "", "child pods are preserved by default when jobs are deleted; "+
		"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning")
}
