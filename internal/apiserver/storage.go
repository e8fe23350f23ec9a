package apiserver

import (
	"fmt"
	"path"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/registry/generic"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/kit"
)

const (
	// storePrefix is where all of the API is in etcd, as in Kubernetes.
	storePrefix = "/registry"
	// compactEvery is how often old revisions are dropped; a revision lives for at least this long.
	compactEvery = 5 * time.Minute
	// deleteWorkers is how many objects of one deletecollection are deleted at a time.
	deleteWorkers = 4
)

// storages makes the stores of all kinds, which share one client of etcd.
type storages struct {
	client    *kubernetes.Client
	compactor etcd3.Compactor
	stop      func()
	scheme    *runtime.Scheme
	codecs    serializer.CodecFactory
	// paths are the paths in etcd of the kinds whose path is not the name of their resource.
	paths map[schema.GroupResource]string
}

func newStorages(client *kubernetes.Client, scheme *runtime.Scheme, codecs serializer.CodecFactory, groups []kit.Group) *storages {
	paths := map[schema.GroupResource]string{}
	for k := range kindsOf(groups) {
		if k.StorePath != "" {
			paths[k.GroupResource()] = k.StorePath
		}
	}
	compactor := etcd3.NewCompactor(client.Client, compactEvery, clock.RealClock{}, nil)
	return &storages{client: client, compactor: compactor, stop: compactor.Stop, scheme: scheme, codecs: codecs, paths: paths}
}

// GetRESTOptions implements generic.RESTOptionsGetter. The version that is stored is that of the example.
func (s *storages) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	version, err := s.version(example)
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("make the store of %s: %w", resource, err)
	}
	config := *storagebackend.NewDefaultConfig(storePrefix, nil)
	config.Codec, config.EncodeVersioner, err = serverstorage.NewStorageCodec(serverstorage.StorageCodecConfig{
		StorageMediaType:  runtime.ContentTypeProtobuf,
		StorageSerializer: s.codecs,
		StorageVersion:    version,
		MemoryVersion:     schema.GroupVersion{Group: version.Group, Version: runtime.APIVersionInternal},
		Config:            config,
	})
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("make the codec of %s: %w", resource, err)
	}
	config.Codec = untyped{config.Codec}
	prefix := s.paths[resource]
	if prefix == "" {
		prefix = resource.Resource
	}
	return generic.RESTOptions{
		StorageConfig:           config.ForResource(resource),
		Decorator:               s.decorate,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: deleteWorkers,
		ResourcePrefix:          path.Join("/", prefix),
	}, nil
}

// version is the version of an object's own kind, in the group that its Go type was made for.
func (s *storages) version(example runtime.Object) (schema.GroupVersion, error) {
	kinds, _, err := s.scheme.ObjectKinds(example)
	if err != nil {
		return schema.GroupVersion{}, err
	}
	for _, k := range kinds {
		if k.Version != runtime.APIVersionInternal {
			return k.GroupVersion(), nil
		}
	}
	return schema.GroupVersion{}, fmt.Errorf("a %T has no version but the internal one", example)
}

// decorate implements generic.StorageDecorator.
func (s *storages) decorate(
	config *storagebackend.ConfigForResource, prefix string, keyFunc func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attributes storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	versioner := storage.APIObjectVersioner{}
	raw, err := etcd3.New(s.client, s.compactor, config.Codec, newFunc, newListFunc, config.Prefix, prefix, config.GroupResource,
		identity.NewEncryptCheckTransformer(), config.LeaseManagerConfig, etcd3.NewDefaultDecoder(config.Codec, versioner), versioner)
	if err != nil {
		return nil, nil, fmt.Errorf("make the store of %s: %w", config.GroupResource, err)
	}
	lazy := newLazyCache(raw, cacheConfig{
		storage: raw, config: config, prefix: prefix, keyFunc: keyFunc, newFunc: newFunc, newListFunc: newListFunc,
		attributes: attributes, triggers: triggers, indexers: indexers,
	})
	return lazy, lazy.destroy, nil
}

// untyped is a codec whose decoded objects do not say their own kind, as the items of a list do not in Kubernetes.
type untyped struct{ runtime.Codec }

// Decode implements runtime.Decoder.
func (u untyped) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, kind, err := u.Codec.Decode(data, defaults, into)
	if err == nil {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return obj, kind, err
}
