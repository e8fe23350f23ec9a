package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sample() *results {
	took := []time.Duration{time.Millisecond, 2 * time.Millisecond, 30 * time.Millisecond}
	return &results{
		alone:   []decisions{{"basic", 100, 0, took}, {"basic", 1000, 0, took}},
		byPods:  []decisions{{"basic", 5000, 0, took}},
		through: []throughput{{workload: "basic", floor: 680, nodes: 100, pods: 101, took: time.Second, created: time.Second}},
		room:    []latencies{{"a Pod is deleted", 100, took}},
		memory:  []memory{{"the scheduler", 100, 1000, 5_000_000}},
	}
}

func TestTables(t *testing.T) {
	text := sample().markdown(options{sizes: []int{100}})
	for _, part := range []string{"| basic | 100 | 680 |", "2.00 ms / 30 ms", "| a Pod is deleted | 2.00 ms | 30 ms |", "| the scheduler | 100 | 1000 | 5 MB |"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
	file := filepath.Join(t.TempDir(), "doc.md")
	for _, tables := range []string{"first\n", "second\n"} {
		if tables == "first\n" {
			if err := os.WriteFile(file, []byte("head\n"+begin+end+"tail\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := replaceTables(file, tables); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "head\n"+begin+"second\n"+end+"tail\n" {
		t.Errorf("%v %q", err, got)
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	for name, r := range map[string]*results{"full": sample(), "empty": {}} {
		d := xml.NewDecoder(strings.NewReader(string(r.plot())))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
