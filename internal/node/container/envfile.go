package container

import (
	"fmt"
	"strings"

	"podium.dev/podium/internal/safeopen"
)

// maxEnvFile is the most bytes of an environment file: it comes from a container, and execve(2) takes little more
// as the whole environment of a process.
const maxEnvFile = 1 << 20

// envFileValue reads a variable from an environment file in a volume; the path cannot leave the volume,
// whatever links a container put there. "" is a variable that is not in the file.
func envFileValue(volume, path, key string) (string, error) {
	content, err := safeopen.Read(maxEnvFile)(safeopen.In(volume, path))
	if err != nil {
		return "", fmt.Errorf("environment file %s: %w", path, err)
	}
	return parseEnvFile(string(content), key)
}

// parseEnvFile finds a variable in lines of NAME='value'. The value is in single quotes and literal, over
// several lines if need be; a comment may follow. A space after '=' makes the value empty, as in a shell.
func parseEnvFile(content, key string) (string, error) {
	lines := strings.Split(content, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(strings.TrimSuffix(lines[i], "\r"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		wrong := func(what string) (string, error) {
			return "", fmt.Errorf("invalid environment variable format at line %d: %s", i+1, what)
		}
		name, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			return wrong("missing '='")
		case strings.TrimRight(name, " \t") == "":
			return wrong("empty variable name")
		case strings.TrimRight(name, " \t") != name:
			return wrong("whitespace before '=' is not allowed")
		}
		if strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t") {
			if name == key {
				return "", nil
			}
			continue
		}
		value, ok = strings.CutPrefix(value, "'")
		if !ok {
			return wrong("value must be enclosed in single quotes")
		}
		start := i
		for !strings.Contains(value, "'") {
			if i++; i == len(lines) {
				return "", fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", start+1)
			}
			value += "\n" + strings.TrimSuffix(lines[i], "\r")
		}
		value, after, _ := strings.Cut(value, "'")
		if after = strings.TrimLeft(after, " \t"); after != "" && !strings.HasPrefix(after, "#") {
			return wrong("unexpected content after closing quote")
		}
		if name == key {
			return value, nil
		}
	}
	return "", nil
}
