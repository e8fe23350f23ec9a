// Package logfile knows the names of the files that a container's log is made of: the one that is written, and those
// that were put aside when they were full. The shim puts them aside, the node compresses and reads them.
package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Stamp is the form of the time in the name of a log that was put aside, as the kubelet writes it
	// (0.log.20060102-150405).
	Stamp = "20060102-150405"
	// Compressed ends the name of a compressed log, Partial that of one that is being compressed.
	Compressed = ".gz"
	Partial    = ".tmp"
)

// maxCount is the most logs that are put aside with one second in their name. The digits of the count have a fixed
// number, so that names sort by age.
const maxCount = 999

// Next returns the name for the log at path that is put aside now. newest is the name of the newest one that was put
// aside before, empty for none. Names sort by age whatever the clock does: a second log of the same second, or of an
// earlier one, has the stamp of the newest and a count («_001»), which sorts after that one and after its
// compressed form.
func Next(path, newest string, now time.Time) string {
	stamp := now.Format(Stamp)
	last, count, ok := parse(path, newest)
	if !ok || stamp > last {
		return path + "." + stamp
	}
	if count < maxCount {
		return fmt.Sprintf("%s.%s_%03d", path, last, count+1)
	}
	at, err := time.ParseInLocation(Stamp, last, now.Location())
	if err != nil {
		at = now
	}
	return path + "." + at.Add(time.Second).Format(Stamp)
}

// parse takes the stamp and the count out of the name of a log that was put aside.
func parse(path, name string) (stamp string, count int, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(name, Compressed), path+".")
	if !ok {
		return "", 0, false
	}
	stamp, digits, counted := strings.Cut(rest, "_")
	if counted {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 {
			return "", 0, false
		}
		count = n
	}
	if _, err := time.Parse(Stamp, stamp); err != nil {
		return "", 0, false
	}
	return stamp, count, true
}

// Aside lists the logs of path that were put aside, oldest first, each by the name that it has uncompressed.
func Aside(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(filepath.Dir(path), e.Name())
		if _, _, ok := parse(path, name); ok {
			names = append(names, strings.TrimSuffix(name, Compressed))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Excess returns the first of the logs that were put aside, oldest first, that must go so that with one more and the
// one that is written there are at most maxFiles.
func Excess(aside []string, maxFiles int) []string {
	return aside[:max(0, min(len(aside), len(aside)-(maxFiles-2)))]
}
