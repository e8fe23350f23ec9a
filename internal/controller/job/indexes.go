package job

import (
	"slices"
	"strconv"
	"strings"
)

// span is a range of completion indexes, both ends included.
type span struct{ first, last int }

// indexes is a set of completion indexes: spans in order, none touching another. Its text, as status.completedIndexes has
// it, is a list of numbers and ranges such as «1,3-5,7».
type indexes []span

// parseIndexes reads the text of a set of indexes below n. Parts that are not numbers are left out.
func parseIndexes(text string, n int) indexes {
	var out indexes
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil || first < 0 || first >= n {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(to); err != nil || last < first {
				continue
			}
		}
		out = out.union(indexes{{first, min(last, n-1)}})
	}
	return out
}

// setOf returns the set of some indexes.
func setOf(list ...int) indexes {
	list = slices.Clone(list)
	slices.Sort(list)
	var out indexes
	for _, i := range list {
		out = out.append(span{i, i})
	}
	return out
}

// append adds a span that begins at or after the beginning of the last one.
func (x indexes) append(s span) indexes {
	if n := len(x); n > 0 && s.first <= x[n-1].last+1 {
		x[n-1].last = max(x[n-1].last, s.last)
		return x
	}
	return append(x, s)
}

// union returns the indexes that are in either set.
func (x indexes) union(y indexes) indexes {
	var out indexes
	for len(x) > 0 || len(y) > 0 {
		if len(y) == 0 || len(x) > 0 && x[0].first <= y[0].first {
			out, x = out.append(x[0]), x[1:]
			continue
		}
		out, y = out.append(y[0]), y[1:]
	}
	return out
}

// count returns the number of indexes in the set.
func (x indexes) count() int {
	n := 0
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

// has reports whether the set holds the index.
func (x indexes) has(i int) bool {
	at, _ := slices.BinarySearchFunc(x, i, func(s span, i int) int {
		if s.last < i {
			return -1
		}
		return 1
	})
	return at < len(x) && x[at].first <= i
}

// overlap returns the number of indexes that are in both sets.
func (x indexes) overlap(y indexes) int {
	n := 0
	for len(x) > 0 && len(y) > 0 {
		n += max(0, min(x[0].last, y[0].last)-max(x[0].first, y[0].first)+1)
		if x[0].last < y[0].last {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return n
}

// missing returns the first `most` of the indexes from 0 to n-1 that are not in the set.
func (x indexes) missing(n, most int) []int {
	var out []int
	next := 0
	for _, s := range append(slices.Clone(x), span{n, n}) {
		for ; next < min(s.first, n) && len(out) < most; next++ {
			out = append(out, next)
		}
		next = max(next, s.last+1)
	}
	return out
}

// String returns the text of the set. Two indexes in a row are listed, three and more are a range.
func (x indexes) String() string {
	var parts []string
	for _, s := range x {
		switch s.last - s.first {
		case 0:
			parts = append(parts, strconv.Itoa(s.first))
		case 1:
			parts = append(parts, strconv.Itoa(s.first), strconv.Itoa(s.last))
		default:
			parts = append(parts, strconv.Itoa(s.first)+"-"+strconv.Itoa(s.last))
		}
	}
	return strings.Join(parts, ",")
}
