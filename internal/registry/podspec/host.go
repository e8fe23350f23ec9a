package podspec

import (
	"fmt"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What a Pod's resolver can hold; the numbers are those of the C library.
const (
	maxNameservers     = 3
	maxSearchPaths     = 32
	maxSearchListChars = 2048
)

// longestHostname is what Linux takes as a host name.
const longestHostname = 64

func (c *checker) dnsConfig(at *field.Path) {
	d := c.spec.DNSConfig
	if c.spec.DNSPolicy == corev1.DNSNone {
		if d == nil {
			c.Required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
		if len(d.Nameservers) == 0 {
			c.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
	}
	if d == nil {
		return
	}
	if len(d.Nameservers) > maxNameservers {
		c.Invalid(at.Child("nameservers"), d.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers))
	}
	for i, server := range d.Nameservers {
		c.address(server, at.Child("nameservers").Index(i))
	}
	c.searches(d.Searches, at.Child("searches"))
	for i, option := range d.Options {
		if option.Name == "" {
			c.Required(at.Child("options").Index(i), "must not be empty")
		}
		if !c.lenient.resolverLines && !oneLine(option) {
			c.Invalid(at.Child("options").Index(i), option, "must be on one line: an option is written into resolv.conf, where a line break begins another setting")
		}
	}
}

// oneLine reports whether an option has no control characters, with which it would be more than an option.
func oneLine(o corev1.PodDNSConfigOption) bool {
	value := ""
	if o.Value != nil {
		value = *o.Value
	}
	return !strings.ContainsFunc(o.Name+value, unicode.IsControl)
}

func (c *checker) searches(list []string, at *field.Path) {
	if len(list) > maxSearchPaths {
		c.Invalid(at, list, fmt.Sprintf("must not have more than %v search paths", maxSearchPaths))
	}
	if len(strings.Join(list, " ")) > maxSearchListChars {
		c.Invalid(at, list, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchListChars))
	}
	for i, search := range list {
		if search != "." {
			search = strings.TrimSuffix(search, ".")
			c.InvalidEach(at.Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(search))
		}
	}
}

func (c *checker) hostAliases(at *field.Path) {
	for i, alias := range c.spec.HostAliases {
		c.address(alias.IP, at.Index(i).Child("ip"))
		for j, name := range alias.Hostnames {
			c.dnsSubdomain(name, at.Index(i).Child("hostnames").Index(j))
		}
	}
}

func (c *checker) address(ip string, at *field.Path) {
	c.Add(validation.IsValidIPForLegacyField(at, ip, true, nil)...)
}

func (c *checker) hostnameOverride(at *field.Path) {
	name := c.spec.HostnameOverride
	if name == nil {
		return
	}
	if c.spec.SetHostnameAsFQDN != nil && *c.spec.SetHostnameAsFQDN {
		c.Forbidden(at, "may not be specified when setHostnameAsFQDN is true")
	}
	if c.spec.HostNetwork {
		c.Forbidden(at, "may not be specified when hostNetwork is true")
	}
	if len(*name) > longestHostname {
		c.TooLong(at, longestHostname)
	}
	c.dnsSubdomain(*name, at)
}
