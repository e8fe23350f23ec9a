package why

import (
	"fmt"
	"strings"
)

// fixForImage suggests a fix for a failure about an image. It reports false if the reason is not about an
// image. message includes the registry's response.
func fixForImage(image, reason, message string) (string, bool) {
	switch reason {
	case "InvalidImageName":
		return fmt.Sprintf("%q is not an image name: correct it (lower case, HOST/PATH:TAG)", image), true
	case "ErrImageNeverPull":
		return "put the image on the node (podium image load FILE, podium image pull NAME), or set imagePullPolicy to IfNotPresent", true
	case "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return fixForPull(image, strings.ToLower(message)), true
	}
	return "", false
}

// pullFixes are suggestions by words in the messages of registries and of the network. The first match applies.
var pullFixes = []struct {
	words []string
	fix   string
}{
	{[]string{"toomanyrequests", "too many requests", "429"}, "the registry limits pulls: authenticate with imagePullSecrets, or configure a mirror in hosts.toml"},
	{[]string{"x509", "certificate", "tls"}, "the registry's certificate is not trusted: add its CA in hosts.toml"},
	{[]string{"server gave http response to https client"}, "the registry serves plain HTTP: configure that in hosts.toml"},
	{[]string{"no such host", "server misbehaving", "name resolution"}, "the registry's host name cannot be resolved: correct it, or the node's DNS"},
	{[]string{"connection refused", "i/o timeout", "no route to host", "network is unreachable", "deadline exceeded", "connection reset"},
		"the registry cannot be reached: check its name and port, the network and the proxy; or configure a mirror in hosts.toml"},
	{[]string{"no space left"}, "the node's disk is full: free some space"},
	{[]string{"no match for platform", "no matching manifest"}, "the image does not support this machine's architecture: use another tag"},
	{[]string{"unauthorized", "401", "authentication required", "403", "forbidden", "denied", "insufficient_scope", "authorization failed"},
		"the registry requires authentication, or has no such image: give the Pod imagePullSecrets that can read it, or correct the name"},
	{[]string{"not found", "manifest unknown", "404", "name unknown"}, "the registry has no such image: correct its name or tag"},
}

func fixForPull(image, message string) string {
	// The name itself may contain any of the words.
	message = strings.ReplaceAll(message, strings.ToLower(image), "")
	for _, m := range pullFixes {
		for _, word := range m.words {
			if strings.Contains(message, word) {
				return m.fix + "; the pull is retried automatically"
			}
		}
	}
	return "fix what the registry reports; the pull is retried automatically"
}
