package intake

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// What a body may hold. An element of a list can be a few bytes on the wire and more than a kilobyte in memory: a Container is
// 1.1 kB before its defaults, and {}, or null, or two bytes of protobuf, make one.
const (
	// freeElements is how many elements of lists a body of any size has.
	freeElements = 4096
	// bytesPerElement is how many bytes of a body allow for one more element that is an object, a number or null: the memory
	// that they take is bounded by some 40 times the body's size. An IP block of a NetworkPolicy, which may come in thousands,
	// has 35.
	bytesPerElement = 32
	// freeTexts and bytesPerText are the same for texts, which are shorter and mostly are what they seem to be.
	freeTexts, bytesPerText = 4 * freeElements, bytesPerElement / 2
	// maxMerged is how many elements the lists of a strategic merge patch have: each is looked for in the object's list from its
	// beginning. A JSON patch has as many operations at most (k8s.io/apiserver, maxJSONPatchOperations).
	maxMerged = 10000
	// maxKeys is how many keys one object has, such as labels or a ConfigMap's data. Managed fields keep a sorted list of them:
	// 120 000 annotations, which fit in 2 MB, took 8 seconds of a processor (structured-merge-diff, PathElementSet.Insert).
	maxKeys = 16 << 10
)

// Judge refuses a body, by its content type, that decoding would blow up. What is no valid JSON, YAML or protobuf passes: the
// decoder has better words for it.
func Judge(contentType string, body []byte) error {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch {
	case strings.Contains(kind, "yaml"):
		return judgeYAML(body)
	case strings.Contains(kind, "protobuf"):
		return judgeProtobuf(body)
	case strings.Contains(kind, "strategic-merge-patch"):
		c := countJSON(body)
		if n := c.elements + c.texts; n > maxMerged {
			return tooLarge("the lists of a strategic merge patch have at most %d elements, and these have %d; send fewer, or apply or replace the object", maxMerged, n)
		}
		return c.judge(len(body))
	default:
		return countJSON(body).judge(len(body))
	}
}

// count are the elements of lists that were found, and the keys of the object that has the most.
type count struct{ elements, texts, keys int }

// judge refuses more elements than a body of this size may have.
func (c count) judge(size int) error {
	if most := freeElements + size/bytesPerElement; c.elements > most {
		return tooLarge("the lists of the request have more than %d elements that are no texts, too many for its %d bytes; send fewer", most, size)
	}
	if most := freeTexts + size/bytesPerText; c.texts > most {
		return tooLarge("the lists of the request have more than %d elements, too many for its %d bytes; send fewer", most, size)
	}
	if c.keys > maxKeys {
		return tooLarge("an object of the request has %d keys, and may have %d; spread them over several objects", c.keys, maxKeys)
	}
	return nil
}

func tooLarge(format string, args ...any) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(format, args...))
}

// level is an array or an object that is open, with the keys that it has so far.
type level struct {
	array bool
	keys  int
}

// countJSON counts the elements of all arrays and the keys of each object in one pass over the bytes.
func countJSON(body []byte) (c count) {
	var levels []level
	inArray := func() bool { return len(levels) > 0 && levels[len(levels)-1].array }
	fresh := false // the next value begins an element
	element := func(text bool) {
		if !fresh || !inArray() {
			return
		}
		fresh = false
		if text {
			c.texts++
		} else {
			c.elements++
		}
	}
	for i := 0; i < len(body); i++ {
		switch b := body[i]; b {
		case '"':
			element(true)
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			element(false)
			levels = append(levels, level{array: b == '['})
			fresh = b == '['
		case '}', ']':
			if len(levels) > 0 {
				levels = levels[:len(levels)-1]
			}
			fresh = false
		case ',':
			fresh = inArray()
		case ':':
			if len(levels) > 0 {
				at := &levels[len(levels)-1]
				at.keys++
				c.keys = max(c.keys, at.keys)
			}
		case ' ', '\t', '\n', '\r':
		default:
			element(false)
		}
	}
	return c
}
