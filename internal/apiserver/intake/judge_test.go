package intake

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	asJSON     = "application/json"
	asYAML     = "application/yaml"
	asApply    = "application/apply-patch+yaml"
	asMerge    = "application/strategic-merge-patch+json"
	asProtobuf = "application/vnd.kubernetes.protobuf"
)

// protobuf is a Pod of containers with these bytes each, as a client sends it.
func protobuf(containers int, each string) []byte {
	field := func(number byte, value string) string {
		b := []byte{number<<3 | 2}
		n := len(value)
		for ; n > 127; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		return string(append(b, byte(n))) + value
	}
	pod := field(2, strings.Repeat(field(2, each), containers))
	return []byte("k8s\x00" + field(1, field(1, "v1")+field(2, "Pod")) + field(2, pod))
}

// manyKeys are the fields of an object with n keys.
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"key-%d":""`, i)
	}
	return b.String()[1:]
}

func TestJudge(t *testing.T) {
	text := strings.Repeat("x", 100<<10)
	bomb := "a: &a [" + strings.Repeat("lol,", 9) + "lol]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), c-1)
	}
	pod := func(containers string) string { return `{"kind":"Pod","spec":{"containers":[` + containers + `]}}` }
	for name, tc := range map[string]struct {
		kind, body string
		refused    string
	}{
		"an object":                   {asJSON, `{"a":[1,2,{"b":["c"]}],"d":"[{,"}`, ""},
		"nothing":                     {asJSON, "", ""},
		"no JSON":                     {asJSON, "]]}}[[,", ""},
		"empty objects":               {asJSON, pod(strings.Repeat("{},", 60000) + "{}"), "more than 9722 elements"},
		"nulls":                       {asJSON, pod(strings.Repeat("null,", 60000) + "null"), "more than 13"},
		"numbers":                     {asMerge, pod(strings.Repeat("1,", 60000) + "1"), "elements"},
		"empty texts":                 {"", pod(strings.Repeat(`"",`, 60000) + `""`), "elements"},
		"nested lists":                {asJSON, strings.Repeat("[", 60000) + strings.Repeat("]", 60000), "elements"},
		"a merge of many elements":    {asMerge, pod(strings.Repeat(`{"name":"a-long-enough-name"},`, 10000) + "{}"), "at most 10000 elements, and these have 10001"},
		"a merge of thousands":        {asMerge, pod(strings.Repeat(`{"name":"a-long-enough-name"},`, 9000) + "{}"), ""},
		"thousands of blocks":         {asJSON, pod(strings.Repeat(`{"ipBlock":{"cidr":"10.0.0.0/24"}},`, 40000) + "{}"), ""},
		"many keys":                   {asJSON, "{\"data\":{" + manyKeys(maxKeys+1) + "}}", "an object of the request has 16385 keys, and may have 16384"},
		"as many keys as may be":      {asJSON, "{\"data\":{" + manyKeys(maxKeys) + "},\"more\":{" + manyKeys(maxKeys) + "}}", ""},
		"many keys in YAML":           {asYAML, "{data: {" + manyKeys(maxKeys+1) + "}, }", "has 16385 keys"},
		"many keys in protobuf":       {asProtobuf, string(protobuf(maxKeys+1, "\x0a\x05abcde\x12\x12abcdefghijklmnopqr")), "has 16385 keys"},
		"many without in protobuf":    {asProtobuf, string(protobuf(maxKeys+1, "\x1a\x19abcdefghijklmnopqrstuvwxy")), ""},
		"a long text":                 {asJSON, `{"data":{"a":"` + strings.Repeat("[1,2,3],", 300000) + `"}}`, ""},
		"aliases of a text":           {asYAML, "a: &a " + text + "\nb: [" + strings.Repeat("*a,", 20000) + "*a]\n", "the aliases of the request's YAML make more than"},
		"aliases of aliases":          {asYAML, bomb, "the aliases"},
		"aliases in an apply patch":   {asApply + "; charset=utf-8", bomb, "the aliases"},
		"aliases in capitals":         {"Application/YAML", bomb, "the aliases"},
		"aliases of objects":          {asYAML, "a: &a [" + strings.Repeat("{},", 400) + "{}]\nb: [" + strings.Repeat("*a,", 40) + "*a]\n", "elements"},
		"an anchor that has itself":   {asYAML, "a: &a [*a]\n", "contains itself"},
		"merged by hand":              {asYAML, "a: &a {b: c}\nd: {<<: *a, e: *a}\n", ""},
		"a script with both":          {asYAML, "data:\n  run: |\n    a && b *\n    c &d *d\n", ""},
		"empty lines":                 {asYAML, "a:\n" + strings.Repeat("-\n", 200000), "lines and commas"},
		"short lines":                 {asYAML, "a:\n" + strings.Repeat("-    \n", 60000), "elements"},
		"JSON that is sent as YAML":   {asApply, `{"data":{"a":"` + strings.Repeat("&a *a, \\n", 90000) + `"}}`, ""},
		"nothing of YAML":             {asYAML, "", ""},
		"protobuf's empty messages":   {asProtobuf, string(protobuf(60000, "")), "elements"},
		"protobuf's small messages":   {asProtobuf, string(protobuf(60000, "\x0a\x01a")), "elements"},
		"protobuf":                    {asProtobuf, string(protobuf(10000, "\x0a\x0acontainer0\x12\x10registry/image:1")), ""},
		"protobuf that is none":       {asProtobuf, "k8s\x00\xff\xff\xff", ""},
		"protobuf without its prefix": {asProtobuf, "\x12\x00\x12\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { err = Judge(tc.kind, []byte(tc.body)) })
			if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("refused with %v, expected %q", err, tc.refused)
			}
			// The judgement itself must not cost what it keeps others from costing.
			if most := uint64(1<<20 + 150*len(tc.body)); used > most {
				t.Errorf("judging %d bytes took %d bytes of memory", len(tc.body), used)
			}
		})
	}
}

// What passes is decoded in memory that is bounded by the size of the body.
func TestWhatPassesIsBounded(t *testing.T) {
	element := `{"aaaaaaa":"aaaaaaaaaaaaaaaaaa"},`
	body := []byte(`{"kind":"Pod","spec":{"containers":[` + strings.Repeat(element, 80000) + `{}]}}`)
	if err := Judge(asJSON, body); err != nil {
		t.Fatal(err)
	}
	used := allocated(func() { _ = json.Unmarshal(body, &corev1.Pod{}) })
	if used > 200*uint64(len(body)) {
		t.Errorf("decoding %d bytes took %d", len(body), used)
	}
	t.Logf("JSON: %d times the body's size", used/uint64(len(body)))
	body = []byte("a:\n" + strings.Repeat("- abcdefghijkl\n", 100000))
	if err := Judge(asYAML, body); err != nil {
		t.Fatal(err)
	}
	used = allocated(func() { _, _ = yaml.YAMLToJSON(body) })
	t.Logf("YAML: %d times the body's size", used/uint64(len(body)))
	if used > 200*uint64(len(body)) {
		t.Errorf("decoding %d bytes took %d", len(body), used)
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
