package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxAliasGrowth is how many times its size a YAML document may grow by its aliases, beyond freeGrowth bytes: kubectl and
	// client-go send none, people write a few.
	maxAliasGrowth, freeGrowth = 8, 64 << 10
	// bytesPerSeparator and freeSeparators bound the nodes that parsing YAML makes, which take some 150 bytes each: there may be
	// one line or comma every four bytes, beyond what any body may have.
	bytesPerSeparator, freeSeparators = 4, 64 << 10
	// nodeBytes is what JSON has around a value: a comma, a colon, quotes.
	nodeBytes = 4
)

// judgeYAML refuses a YAML body that grows too much when its aliases are replaced by what they stand for, which happens on the
// way to JSON, or that has too many elements. sigs.k8s.io/yaml counts the nodes of the former, not their bytes: 20 000 aliases of
// a text of 100 kB are few nodes and 2 GB. What is JSON, as apply patches are that kubectl sends, has no aliases.
func judgeYAML(body []byte) error {
	if json.Valid(body) {
		return countJSON(body).judge(len(body))
	}
	if n := bytes.Count(body, []byte{'\n'}) + bytes.Count(body, []byte{','}); n > freeSeparators+len(body)/bytesPerSeparator {
		return tooLarge("the request's YAML has %d lines and commas, too many for its %d bytes; send JSON", n, len(body))
	}
	// Only the first document counts: the decoder reads no other.
	var document yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(body)).Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return apierrors.NewBadRequest("the request's YAML cannot be read: " + err.Error())
	}
	g := growth{most: freeGrowth + maxAliasGrowth*len(body), sizes: map[*yaml.Node]*extent{}}
	whole := g.of(&document)
	switch {
	case g.cyclic:
		return apierrors.NewBadRequest("the request's YAML has an anchor that contains itself; remove the alias, or send JSON")
	case g.exceeded:
		return tooLarge("the aliases of the request's YAML make more than %d bytes of its %d; write out what they stand for, or send JSON", g.most, len(body))
	}
	return whole.count.judge(len(body))
}

// extent is how large a node is with every alias in it replaced: in bytes of JSON, and in elements of lists.
type extent struct {
	bytes int
	count
}

// growth measures YAML nodes.
type growth struct {
	most             int
	sizes            map[*yaml.Node]*extent // of anchored nodes; nil while the node is being measured
	exceeded, cyclic bool
}

// of returns a node's extent, which is of no meaning once exceeded or cyclic is set. A node that has an anchor is measured once.
func (g *growth) of(n *yaml.Node) (e extent) {
	if g.exceeded || g.cyclic {
		return e
	}
	if n.Kind == yaml.AliasNode {
		return g.of(n.Alias)
	}
	if n.Anchor != "" {
		switch known, seen := g.sizes[n]; {
		case known != nil:
			return *known
		case seen:
			g.cyclic = true
			return e
		}
		g.sizes[n] = nil
	}
	e.bytes = len(n.Value) + nodeBytes
	if n.Kind == yaml.MappingNode {
		e.keys = len(n.Content) / 2
	}
	for _, child := range n.Content {
		inner := g.of(child)
		e.bytes += inner.bytes
		e.elements += inner.elements
		e.texts += inner.texts
		e.keys = max(e.keys, inner.keys)
		if n.Kind == yaml.SequenceNode {
			if child.Kind == yaml.ScalarNode && child.Tag == "!!str" {
				e.texts++
			} else {
				e.elements++
			}
		}
		if e.bytes > g.most {
			g.exceeded = true
			break
		}
	}
	if n.Anchor != "" {
		g.sizes[n] = &e
	}
	return e
}
