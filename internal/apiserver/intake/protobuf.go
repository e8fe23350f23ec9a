package intake

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
)

// protobufPrefix begins every protobuf object of the Kubernetes API. Source:
// https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
var protobufPrefix = []byte{'k', '8', 's', 0}

// maxProtobufDepth is how deep messages are looked into; no type of the API is as deep.
const maxProtobufDepth = 64

// mapKey begins an entry of a map: the tag of its field 1, with a length. Source:
// https://protobuf.dev/programming-guides/encoding/#maps
var mapKey = protowire.AppendTag(nil, 1, protowire.BytesType)

// judgeProtobuf counts the elements of repeated fields without knowing the types: what a field holds is taken for a message when
// it can be read as one to its end. Elements that are texts look the same, hence the more generous of the limits.
func judgeProtobuf(body []byte) error {
	message, ok := bytes.CutPrefix(body, protobufPrefix)
	if !ok {
		return nil
	}
	c, _ := repeated(message, 0)
	return c.judge(len(body))
}

// repeated counts, as texts, the fields with a length that follow one of the same number, at every level, and reports whether all
// of it is a message. Those that begin like the entry of a map, with their first field, count as keys as well.
func repeated(message []byte, depth int) (c count, ok bool) {
	if depth > maxProtobufDepth {
		return count{}, false
	}
	last, keys := protowire.Number(0), 0
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return count{}, false
		}
		message = message[size:]
		if kind != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(number, kind, message); size < 0 {
				return count{}, false
			}
			message, last = message[size:], number
			continue
		}
		value, size := protowire.ConsumeBytes(message)
		if size < 0 {
			return count{}, false
		}
		message = message[size:]
		if number == last {
			c.texts++
		} else {
			keys = 0
		}
		if last = number; bytes.HasPrefix(value, mapKey) {
			keys++
			c.keys = max(c.keys, keys)
		}
		if inner, is := repeated(value, depth+1); is {
			c.texts += inner.texts
			c.keys = max(c.keys, inner.keys)
		}
	}
	return c, true
}
