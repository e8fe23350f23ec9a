package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const kind = "KubeletConfiguration"

// lineMap is where the settings of a file are, by their paths.
type lineMap map[string]int

// of is the line of a setting, or of the one that it is a part of.
func (l lineMap) of(field string) int {
	for field != "" {
		if line, ok := l[field]; ok {
			return line
		}
		field = parent(field)
	}
	return 0
}

func parent(field string) string {
	at := strings.LastIndexAny(field, ".[")
	return field[:max(at, 0)]
}

// decode reads the settings of a file one by one, so that each one's fault is known for its own.
func decode(content []byte) (*kubeletconfig.KubeletConfiguration, lineMap, []Problem) {
	config := &kubeletconfig.KubeletConfiguration{}
	var document yamlv3.Node
	if err := yamlv3.Unmarshal(content, &document); err != nil {
		return nil, nil, []Problem{syntax(err)}
	}
	if len(document.Content) == 0 {
		return nil, nil, []Problem{{Message: "the file is empty; remove it, and it is written again with the defaults"}}
	}
	root := document.Content[0]
	if root.Kind != yamlv3.MappingNode {
		return nil, nil, []Problem{{Line: root.Line, Message: "a " + kind + " is a mapping of settings"}}
	}
	lines := lineMap{}
	problems := lines.add(root, "")
	raw, err := toJSON(content)
	if err != nil && len(problems) == 0 {
		problems = append(problems, syntax(err))
	}
	if len(problems) == 0 {
		problems = append(problems, checkKind(raw, lines)...)
	}
	if len(problems) > 0 {
		return nil, lines, problems
	}
	for key, value := range raw {
		problems = append(problems, decodeOne(config, key, value, lines)...)
	}
	return config, lines, problems
}

// toJSON reads YAML as Kubernetes does and returns its top-level settings.
func toJSON(content []byte) (map[string]json.RawMessage, error) {
	asJSON, err := yaml.YAMLToJSONStrict(content)
	if err != nil {
		return nil, err
	}
	var raw map[string]json.RawMessage
	return raw, json.Unmarshal(asJSON, &raw)
}

var yamlLine = regexp.MustCompile(`line (\d+): *`)

// syntax is an error of a YAML reader as a problem.
func syntax(err error) Problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{Message: message}
	if m := yamlLine.FindStringSubmatchIndex(message); m != nil {
		p.Line, _ = strconv.Atoi(message[m[2]:m[3]])
		p.Message = message[:m[0]] + message[m[1]:]
	}
	return p
}

// add notes the lines of a node's settings, and returns those that are there twice.
func (l lineMap) add(node *yamlv3.Node, path string) (problems []Problem) {
	switch node.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			field := strings.TrimPrefix(path+"."+key.Value, ".")
			if first, ok := l[field]; ok {
				problems = append(problems, Problem{key.Line, field, fmt.Sprintf("is set already in line %d", first)})
				continue
			}
			l[field] = key.Line
			problems = append(problems, l.add(value, field)...)
		}
	case yamlv3.SequenceNode:
		for i, item := range node.Content {
			field := fmt.Sprintf("%s[%d]", path, i)
			l[field] = item.Line
			problems = append(problems, l.add(item, field)...)
		}
	}
	return problems
}

func checkKind(raw map[string]json.RawMessage, lines lineMap) (problems []Problem) {
	for field, want := range map[string]string{"apiVersion": kubeletconfig.SchemeGroupVersion.String(), "kind": kind} {
		var got string
		if err := json.Unmarshal(raw[field], &got); err != nil || got != want {
			problems = append(problems, Problem{lines.of(field), field, fmt.Sprintf("must be %q", want)})
		}
	}
	return problems
}

// decodeOne reads one top-level setting into the configuration.
func decodeOne(config *kubeletconfig.KubeletConfiguration, key string, value json.RawMessage, lines lineMap) (problems []Problem) {
	one, err := json.Marshal(map[string]json.RawMessage{key: value})
	if err != nil {
		return []Problem{{lines.of(key), key, err.Error()}}
	}
	strict, err := kjson.UnmarshalStrict(one, config)
	if err != nil {
		return []Problem{typeProblem(err, key, lines)}
	}
	for _, err := range strict {
		field := key
		var at kjson.FieldError
		if errors.As(err, &at) {
			field = at.FieldPath()
		}
		problems = append(problems, Problem{lines.of(field), field, "there is no such setting"})
	}
	return problems
}

// typeProblem says that a setting is of the wrong type.
func typeProblem(err error, key string, lines lineMap) Problem {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return Problem{lines.of(key), key, err.Error()}
	}
	field := key
	if wrong.Field != "" {
		field = wrong.Field
	}
	return Problem{lines.of(field), field, fmt.Sprintf("must be of type %s, not %s", wrong.Type, wrong.Value)}
}
