// Package column provides the columns and cells that the tables of many kinds share.
package column

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Definition is the definition of a column, as in a table.
type Definition = metav1.TableColumnDefinition

// Unknown is the cell of a time that is not set, None that of an empty list, Unset that of a missing value.
const (
	Unknown = "<unknown>"
	None    = "<none>"
	Unset   = "<unset>"
)

// Name returns the column of the object's name.
func Name() Definition {
	return Definition{Name: "Name", Type: "string", Format: "name", Description: metaDoc("name")}
}

// Age returns the column of the time since the object was created.
func Age() Definition { return Text("Age", metaDoc("creationTimestamp")) }

// Text returns a column of strings.
func Text(name, description string) Definition {
	return Definition{Name: name, Type: "string", Description: description}
}

// Integer returns a column of integers. Its cells are int64.
func Integer(name, description string) Definition {
	return Definition{Name: name, Type: "integer", Description: description}
}

// Boolean returns a column of booleans. Its cells are bool.
func Boolean(name, description string) Definition {
	return Definition{Name: name, Type: "boolean", Description: description}
}

// Wide returns the column such that it is only shown in wide output.
func Wide(d Definition) Definition {
	d.Priority = 1
	return d
}

func metaDoc(field string) string { return metav1.ObjectMeta{}.SwaggerDoc()[field] }

// Since formats the time since t, such as "5m".
func Since(t metav1.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// SinceMicro is Since for a time in microseconds.
func SinceMicro(t metav1.MicroTime) string { return Since(metav1.Time(t)) }

// OrNone returns the word, or None if it is empty.
func OrNone(word string) string { return or(word, None) }

// OrUnknown returns the word, or Unknown if it is empty.
func OrUnknown(word string) string { return or(word, Unknown) }

func or(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// FirstOf joins the first words and appends the number of the others: "a,b,c + 2 more...".
func FirstOf(words []string, show int) string {
	if len(words) <= show {
		return strings.Join(words, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(words[:show], ","), len(words)-show)
}

// OrUnset returns the word that is pointed to, or Unset.
func OrUnset[T ~string](word *T) string {
	if word == nil {
		return Unset
	}
	return string(*word)
}
