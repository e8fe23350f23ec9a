package app

import (
	"strings"
	"testing"
	"time"
)

func TestCheckOfTheCommandLine(t *testing.T) {
	good := Config{Bind: "0.0.0.0:6443"}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"as it comes":      {func(*Config) {}, ""},
		"all said":         {func(c *Config) { c.NodeName, c.PodCIDR = "edge-1.example.com", "10.1.0.0/24,fd00::/64" }, ""},
		"no port":          {func(c *Config) { c.Bind = "127.0.0.1" }, "is not ADDR:PORT with a numeric address; give for example"},
		"a host's name":    {func(c *Config) { c.Bind = "localhost:6443" }, "is not ADDR:PORT with a numeric address"},
		"a name's letters": {func(c *Config) { c.NodeName = "Bad_Name" }, `--node-name "Bad_Name" cannot be a node's name: a lowercase RFC 1123 subdomain`},
		"no range":         {func(c *Config) { c.PodCIDR = "nonsense" }, `--pod-cidr "nonsense": it is not ADDRESS/BITS; give for example`},
		"no room":          {func(c *Config) { c.PodCIDR = "10.0.0.0/31" }, "10.0.0.0/31 has no room for a Pod"},
		"no room of IPv6":  {func(c *Config) { c.PodCIDR = "fd00::/127" }, "fd00::/127 has no room for a Pod"},
		"twice a family":   {func(c *Config) { c.PodCIDR = "10.1.0.0/24,10.2.0.0/24" }, "at most one range of each family"},
		"half a pair":      {func(c *Config) { c.EtcdCertFile = "x" }, "belong together"},
		"no amount":        {func(c *Config) { c.MemoryLimit = "much" }, `--memory-limit "much" is no amount of memory; give for example`},
		"too short a life": {func(c *Config) { c.MaxTokenLife = time.Minute }, "between 1 hour and 2^32 seconds"},
		"several at once":  {func(c *Config) { c.NodeName, c.PodCIDR = "A", "b" }, "\n--pod-cidr"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			tc.change(&c)
			got := ""
			if err := c.Check(); err != nil {
				got = err.Error()
			}
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
