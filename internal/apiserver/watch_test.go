package apiserver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/pki"
)

// next returns the next event that is not a bookmark.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatal("the watch ended")
			}
			if e.Type != watch.Bookmark {
				return e
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no event in 20 seconds")
		}
	}
}

func TestLists(t *testing.T) {
	c := start(t, t.TempDir())
	maps := c.client(pki.Admin).CoreV1().ConfigMaps("default")
	for i := range 5 {
		m := configMap(fmt.Sprintf("m%d", i), "a", "b")
		m.Labels = map[string]string{"even": fmt.Sprint(i%2 == 0)}
		if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := maps.List(ctx, metav1.ListOptions{Limit: 2})
	if err != nil || len(page.Items) != 2 || page.Continue == "" || ptr.Deref(page.RemainingItemCount, 0) != 3 {
		t.Fatalf("first page: %d items, continue %q, %v", len(page.Items), page.Continue, err)
	}
	version := page.ResourceVersion
	// A page shows what was there when the first was read.
	if err := maps.Delete(ctx, "m4", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	rest, err := maps.List(ctx, metav1.ListOptions{Limit: 10, Continue: page.Continue})
	if err != nil || len(rest.Items) != 3 || rest.ResourceVersion != version {
		t.Errorf("second page: %d items of version %s, want 3 of %s; %v", len(rest.Items), rest.ResourceVersion, version, err)
	}
	for name, q := range map[string]struct {
		o    metav1.ListOptions
		want int
	}{
		"all":            {metav1.ListOptions{}, 4},
		"label":          {metav1.ListOptions{LabelSelector: "even=true"}, 2},
		"field":          {metav1.ListOptions{FieldSelector: "metadata.name=m1"}, 1},
		"any version":    {metav1.ListOptions{ResourceVersion: "0"}, 4},
		"exact version":  {metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact}, 5},
		"not older than": {metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}, 4},
	} {
		list, err := maps.List(ctx, q.o)
		if err != nil || len(list.Items) != q.want {
			t.Errorf("%s: %d items, want %d; %v", name, len(list.Items), q.want, err)
		}
	}
	if _, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "data.a=b"}); err == nil ||
		!strings.Contains(err.Error(), `"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"`) {
		t.Errorf("unknown field: %v", err)
	}
	if _, err := c.client(pki.Admin).CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.image=b"}); err == nil ||
		!strings.Contains(err.Error(), "field label not supported: spec.image") {
		t.Errorf("unknown field of Pods: %v", err)
	}
}

func TestWatches(t *testing.T) {
	c := start(t, t.TempDir())
	maps := c.client(pki.Admin).CoreV1().ConfigMaps("default")
	first, err := maps.Create(ctx, configMap("first", "a", "1"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := maps.Create(ctx, configMap("second", "a", "1"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c.server.stores[schema.GroupResource{Resource: "configmaps"}].Storage.Storage.(*lazyCache).full() != nil {
		t.Fatal("there is a cache before anybody watched")
	}
	// Nobody has watched before, so there is no cache yet: what happened before it is seen all the same.
	old, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Stop()
	if e := next(t, old); e.Type != watch.Added || e.Object.(*corev1.ConfigMap).Name != "second" {
		t.Errorf("event = %v", e)
	}
	now, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: second.ResourceVersion, AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer now.Stop()
	second.Data["a"] = "2"
	if _, err := maps.Update(ctx, second, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	third, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: second.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Stop()
	cache := c.server.stores[schema.GroupResource{Resource: "configmaps"}].Storage.Storage.(*lazyCache)
	if cache.full() == nil {
		t.Error("three watch, and there is no cache")
	}
	fromCache, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer fromCache.Stop()
	if e := next(t, fromCache); e.Type != watch.Added || e.Object.(*corev1.ConfigMap).Data["a"] != "2" {
		t.Errorf("from the cache: event = %v", e)
	}
	for name, w := range map[string]watch.Interface{"from before": old, "from the second": now, "from before the cache": third} {
		if e := next(t, w); e.Type != watch.Modified || e.Object.(*corev1.ConfigMap).Data["a"] != "2" {
			t.Errorf("%s: event = %v", name, e)
		}
		if e := next(t, w); e.Type != watch.Deleted || e.Object.(*corev1.ConfigMap).Name != "first" {
			t.Errorf("%s: event = %v", name, e)
		}
	}
	if _, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "no"}); err == nil || !strings.Contains(err.Error(), `resourceVersion: Invalid value: "no"`) {
		t.Errorf("watch of a bad version: %v", err)
	}
}

func TestInitialEvents(t *testing.T) {
	c := start(t, t.TempDir())
	maps := c.client(pki.Admin).CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("there", "a", "1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		w, err := maps.Watch(ctx, metav1.ListOptions{
			SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.ConfigMap).Name != "there" {
			t.Errorf("event = %v", e)
		}
		e := <-w.ResultChan()
		if m, ok := e.Object.(*corev1.ConfigMap); e.Type != watch.Bookmark || !ok || m.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
			t.Errorf("after the initial events: %v", e)
		}
		t.Logf("round %d took %v", round, time.Since(begin))
		w.Stop()
	}
}

func TestTables(t *testing.T) {
	c := start(t, t.TempDir())
	table := &metav1.Table{}
	err := c.client(pki.Admin).CoreV1().RESTClient().Get().Resource("namespaces").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(ctx).Into(table)
	if err != nil || len(table.Rows) < 4 || table.ColumnDefinitions[0].Name != "Name" {
		t.Errorf("table = %v, %v", table, err)
	}
}
