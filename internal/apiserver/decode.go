package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"podium.dev/podium/internal/registry/podspec"
)

// boundedSerializer decodes what clients send, and refuses Pods with lists that are too long before anything is done with them:
// the owners of their fields alone (managedFields) take 25 kB a container.
type boundedSerializer struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (s boundedSerializer) DecoderToVersion(d runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return boundedDecoder{s.NegotiatedSerializer.DecoderToVersion(d, gv)}
}

type boundedDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder. What breaks strict rules only is an object and an error; its lists count too.
func (d boundedDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	object, kind, err := d.Decoder.Decode(data, defaults, into)
	if object == nil || err != nil && !runtime.IsStrictDecodingError(err) {
		return object, kind, err
	}
	if faults := podspec.Bounds(object); len(faults) > 0 {
		return nil, kind, faults.ToAggregate()
	}
	return object, kind, err
}
