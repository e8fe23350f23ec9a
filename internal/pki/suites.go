package pki

import (
	"crypto/tls"
	"strings"
)

// CipherSuites are the suites of TLS 1.2 that every server of the node offers: those that Go holds secure, without the ones in
// CBC mode, whose padding has been an oracle more than once (CVE-2013-0169, Lucky Thirteen). TLS 1.3 has none of them and
// chooses by itself.
func CipherSuites() (ids []uint16) {
	for _, s := range tls.CipherSuites() {
		if !strings.Contains(s.Name, "_CBC_") {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
