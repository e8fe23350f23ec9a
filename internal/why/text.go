package why

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// nodesInText bounds the nodes that the text names. The others are counted.
const nodesInText = 12

// Write writes an explanation as text. now is the present time, for ages.
func Write(w io.Writer, e Explanation, now time.Time) error {
	var b strings.Builder
	write(&b, e, now, "")
	_, err := io.WriteString(w, b.String())
	return err
}

func write(b *strings.Builder, e Explanation, now time.Time, indent string) {
	phase := ""
	if e.Phase != "" {
		phase = fmt.Sprintf(" (%s)", e.Phase)
	}
	fmt.Fprintf(b, "%s%s %s/%s%s: %s\n", indent, e.Kind, e.Namespace, e.Name, phase, e.Verdict)
	for _, f := range e.Findings {
		writeFinding(b, f, now, indent+"  ")
	}
	writeNodes(b, e.Nodes, indent+"  ")
	writePods(b, e.Pods, now, indent+"  ")
	for _, u := range e.Unread {
		fmt.Fprintf(b, "%s  not read: %s\n", indent, u)
	}
}

// writePods writes what keeps each Pod. Pods that differ in their names and times only are written once.
func writePods(b *strings.Builder, pods []Explanation, now time.Time, indent string) {
	var first []Explanation
	more := map[string][]string{}
	for _, p := range pods {
		key := timeless(p)
		if _, known := more[key]; known {
			more[key] = append(more[key], p.Name)
			continue
		}
		first, more[key] = append(first, p), nil
	}
	for _, p := range first {
		write(b, p, now, indent)
		if names := more[timeless(p)]; len(names) > 0 {
			fmt.Fprintf(b, "%s  the same holds for %s: %s\n", indent, plural(len(names), "further Pod", "further Pods"), enumerate(names))
		}
	}
}

// timeless returns the text of an explanation without the object's name and the times of the findings.
func timeless(e Explanation) string {
	name := e.Name
	e.Name, e.Findings = "", slices.Clone(e.Findings)
	for i := range e.Findings {
		e.Findings[i].Since, e.Findings[i].Next = nil, nil
	}
	var b strings.Builder
	write(&b, e, time.Time{}, "")
	return strings.ReplaceAll(b.String(), name, "")
}

func writeFinding(b *strings.Builder, f Finding, now time.Time, indent string) {
	head := f.About
	if f.Object != "" {
		head += " " + f.Object
	}
	if f.Reason != "" {
		head += ": " + f.Reason
	}
	var times []string
	if f.Since != nil {
		times = append(times, age(f.Since, now)+" ago")
	}
	if f.Next != nil {
		times = append(times, due(f.Next, now))
	}
	if len(times) > 0 {
		head += " (" + strings.Join(times, ", ") + ")"
	}
	fmt.Fprintf(b, "%s%s\n", indent, head)
	lines(b, f.Message, indent+"  ")
	if f.Fix != "" {
		lines(b, "fix: "+f.Fix, indent+"  ")
	}
}

// lines writes a text of one or more lines with an indent.
func lines(b *strings.Builder, text, indent string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(b, "%s%s\n", indent, line)
	}
}

func age(t *metav1.Time, now time.Time) string {
	return duration.HumanDuration(max(now.Sub(t.Time), 0))
}

func due(t *metav1.Time, now time.Time) string {
	if left := t.Sub(now); left > 0 {
		return "next in " + duration.HumanDuration(left)
	}
	return "next is due"
}

// writeNodes writes what keeps the Pod off each node. Nodes with the same text are written once.
func writeNodes(b *strings.Builder, nodes []Node, indent string) {
	var texts []string
	names := map[string][]string{}
	for _, n := range nodes {
		text := refusals(n, indent+"  ")
		if names[text] == nil {
			texts = append(texts, text)
		}
		names[text] = append(names[text], n.Name)
	}
	told := 0
	for i, text := range texts {
		if i == nodesInText {
			fmt.Fprintf(b, "%sand %s; use -o json for all\n", indent, plural(len(nodes)-told, "further node", "further nodes"))
			return
		}
		fmt.Fprintf(b, "%snode %s\n%s", indent, enumerate(names[text]), text)
		told += len(names[text])
	}
}

func enumerate(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(slices.Clone(names[:most-1]), ", "), len(names)-most+1)
}

func refusals(n Node, indent string) string {
	var b strings.Builder
	if len(n.Refused) == 0 {
		fmt.Fprintf(&b, "%sfits now\n", indent)
	}
	for _, r := range n.Refused {
		fmt.Fprintf(&b, "%s%s%s\n", indent, r.Message, holders(r))
		if r.Fix != "" {
			fmt.Fprintf(&b, "%s  fix: %s\n", indent, r.Fix)
		}
	}
	return b.String()
}

// holders names the Pods that hold what is short.
func holders(r Refusal) string {
	if len(r.Holders) == 0 {
		return ""
	}
	names := make([]string, 0, len(r.Holders))
	for _, h := range r.Holders {
		names = append(names, strings.TrimSpace(h.Pod+" "+h.Amount))
	}
	word := "; held by: "
	if r.Resource != "" {
		word = "; largest holder: "
	}
	return word + strings.Join(names, ", ")
}
