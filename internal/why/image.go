package why

import (
	"fmt"
	"strings"
)

// mendOfImage says what helps against a failure about an image, and whether the reason is about one at all.
// message holds the registry's own answer.
func mendOfImage(image, reason, message string) (string, bool) {
	switch reason {
	case "InvalidImageName":
		return fmt.Sprintf("%q is no image's name: correct it (lower case, HOST/PATH:TAG)", image), true
	case "ErrImageNeverPull":
		return "bring the image to the node (podium image load FILE, podium image pull NAME), or set imagePullPolicy to IfNotPresent", true
	case "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return mendOfPull(image, strings.ToLower(message)), true
	}
	return "", false
}

// pullMends are what helps, by words of registries and of the network; the first that is found counts.
var pullMends = []struct {
	words []string
	mend  string
}{
	{[]string{"toomanyrequests", "too many requests", "429"}, "the registry allows no more pulls for now: log in by imagePullSecrets, or name a mirror in hosts.toml"},
	{[]string{"x509", "certificate", "tls"}, "the registry's certificate is not trusted: add its CA in hosts.toml"},
	{[]string{"server gave http response to https client"}, "the registry speaks plain HTTP: say so in hosts.toml"},
	{[]string{"no such host", "server misbehaving", "name resolution"}, "the registry's host name is not known: correct it, or the node's DNS"},
	{[]string{"connection refused", "i/o timeout", "no route to host", "network is unreachable", "deadline exceeded", "connection reset"},
		"the registry is not reached: correct the name or its port, the network or the proxy; or name a mirror in hosts.toml"},
	{[]string{"no space left"}, "the node's disk is full: make room"},
	{[]string{"no match for platform", "no matching manifest"}, "the image is not made for this machine's processor: take another tag"},
	{[]string{"unauthorized", "401", "authentication required", "403", "forbidden", "denied", "insufficient_scope", "authorization failed"},
		"the registry wants to know who asks, or has no such image: give the Pod imagePullSecrets that may read it, or correct the name"},
	{[]string{"not found", "manifest unknown", "404", "name unknown"}, "the registry has no such image: correct its name or tag"},
}

func mendOfPull(image, message string) string {
	// The name itself may hold any of the words.
	message = strings.ReplaceAll(message, strings.ToLower(image), "")
	for _, m := range pullMends {
		for _, word := range m.words {
			if strings.Contains(message, word) {
				return m.mend + "; it is tried again by itself"
			}
		}
	}
	return "mend what the registry says; it is tried again by itself"
}
