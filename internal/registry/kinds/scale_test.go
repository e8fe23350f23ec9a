package kinds_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// list is a JSON list of n elements, each made of its number.
func list(n int, format string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(",")
		fmt.Fprintf(&b, format, i)
	}
	return "[" + strings.TrimPrefix(b.String(), ",") + "]"
}

// growing are specs of Pods with n of something.
var growing = map[string]func(n int) string{
	"containers": func(n int) string { return `"containers":` + list(n, `{"name":"c%d","image":"x:1"}`) },
	"initContainers": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"initContainers":` + list(n, `{"name":"i%d","image":"x:1"}`)
	},
	"volumes": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"volumes":` + list(n, `{"name":"v%d","emptyDir":{}}`)
	},
	"mounts": func(n int) string {
		return `"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","image":"x","volumeMounts":` + list(n, `{"name":"v","mountPath":"/m/%d"}`) + `}]`
	},
	"env": func(n int) string {
		return `"containers":[{"name":"c","image":"x","env":` + list(n, `{"name":"E%d","value":"v"}`) + `}]`
	},
	"equal env": func(n int) string {
		return `"containers":[{"name":"c","image":"x","env":` + list(n, `{"name":"E","value":"%d"}`) + `}]`
	},
	"ports": func(n int) string {
		return `"containers":[{"name":"c","image":"x","ports":` + list(n, `{"containerPort":1%04d}`) + `}]`
	},
	"equal ports": func(n int) string {
		return `"containers":[{"name":"c","image":"x","ports":` + list(n, `{"containerPort":80,"name":"p%d"}`) + `}]`
	},
	"tolerations": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"tolerations":` + list(n, `{"key":"k%d","operator":"Exists"}`)
	},
	"files": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"volumes":[{"name":"v","configMap":{"name":"m","items":` + list(n, `{"key":"k","path":"a/%d"}`) + `}}]`
	},
	"faults":      func(n int) string { return `"containers":` + list(n, `{"name":"%d_","image":""}`) },
	"equal names": func(n int) string { return `"containers":` + list(n, `{"name":"c","image":"%d"}`) },
	"host aliases": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"hostAliases":` + list(n, `{"ip":"10.0.0.1","hostnames":["h%d"]}`)
	},
	"secrets": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"imagePullSecrets":` + list(n, `{"name":"s%d"}`)
	},
	"gates": func(n int) string {
		return `"containers":[{"name":"c","image":"x"}],"schedulingGates":` + list(n, `{"name":"a/g%d"}`)
	},
}

// What a Pod costs the API server grows no faster than the Pod: eight times as many of something take no more than twelve times
// the memory, and what is sent in one request no more than some 1 500 times its size, most of it in fields' owners. Both count all
// memory that was ever allocated, which is more than what is in use at a time.
func TestPodsCostWhatTheyWeigh(t *testing.T) {
	a := serve(t)
	a.do(t, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "p"}}, asJSON)
	a.do(t, http.MethodPost, "/api/v1/namespaces/p/serviceaccounts", map[string]any{"metadata": map[string]any{"name": "default"}}, asJSON)
	create := func(n int, spec string) (cost uint64, size int, said answer) {
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"p-"},"spec":{%s}}`, spec)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		said = a.do(t, http.MethodPost, "/api/v1/namespaces/p/pods", json.RawMessage(body), asJSON)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc, len(body), said
	}
	create(1, growing["containers"](1)) // the types' schemas are made when they are first used
	const few, many, tooMany = 125, 1000, 4000
	for name, spec := range growing {
		t.Run(name, func(t *testing.T) {
			small, _, _ := create(few, spec(few))
			large, size, said := create(many, spec(many))
			if base := uint64(2 << 20); large > 12*(small+base) {
				t.Errorf("%d take %d kB, %d take %d kB", few, small>>10, many, large>>10)
			}
			if large > uint64(1500*size+4<<20) {
				t.Errorf("%d bytes take %d kB", size, large>>10)
			}
			huge, size, refused := create(tooMany, spec(tooMany))
			if huge > uint64(1500*size+4<<20) {
				t.Errorf("%d bytes take %d kB", size, huge>>10)
			}
			t.Logf("%d: %d kB (%d), %d: %d kB (%d), %d: %d kB (%d), %.200v", few, small>>10, 0, many, large>>10, said.code, tooMany, huge>>10, refused.code, refused.body["message"])
		})
	}
	cost, size, refused := create(10000, growing["containers"](10000))
	for range 2 { // the least of three: a request before it that timed out may still be at work
		again, _, _ := create(10000, growing["containers"](10000))
		cost = min(cost, again)
	}
	if refused.code != http.StatusBadRequest || !strings.Contains(fmt.Sprint(refused.body["message"]), "spec.containers: Too many: 10000: must have at most 256 items") {
		t.Errorf("10 000 containers: %d %.300v", refused.code, refused.body["message"])
	}
	if cost > uint64(refusalFactor*size) {
		t.Errorf("10 000 containers in %d bytes took %d kB to refuse", size, cost>>10)
	}
	patch := bytes.NewBufferString(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{` + growing["containers"](10000) + `}}`)
	if got := a.send(t, http.MethodPatch, "/api/v1/namespaces/p/pods/p?fieldManager=x", "apply-patch", json.RawMessage(patch.Bytes()), asJSON); got.code < 400 || !strings.Contains(fmt.Sprint(got.body["message"]), "Too many: 10000") {
		t.Errorf("10 000 containers applied: %d %.300v", got.code, got.body["message"])
	}
}
