// Package column makes the columns and cells that the tables of many kinds share.
package column

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Definition is the head of a column, as a table carries it.
type Definition = metav1.TableColumnDefinition

// Unknown is the cell of a time that is not set, None that of a list without items, Unset that of a missing value.
const (
	Unknown = "<unknown>"
	None    = "<none>"
	Unset   = "<unset>"
)

// Name is the column of the object's name.
func Name() Definition {
	return Definition{Name: "Name", Type: "string", Format: "name", Description: metaDoc("name")}
}

// Age is the column of the time since the object was made.
func Age() Definition { return Text("Age", metaDoc("creationTimestamp")) }

// Text is a column of words.
func Text(name, description string) Definition {
	return Definition{Name: name, Type: "string", Description: description}
}

// Integer is a column of whole numbers; its cells are int64.
func Integer(name, description string) Definition {
	return Definition{Name: name, Type: "integer", Description: description}
}

// Boolean is a column of yes and no; its cells are bool.
func Boolean(name, description string) Definition {
	return Definition{Name: name, Type: "boolean", Description: description}
}

// Wide shows the column only when a client asks for wide output.
func Wide(d Definition) Definition {
	d.Priority = 1
	return d
}

func metaDoc(field string) string { return metav1.ObjectMeta{}.SwaggerDoc()[field] }

// Since is the cell of the time that has passed since t: "5m".
func Since(t metav1.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// SinceMicro is Since for a time with microseconds.
func SinceMicro(t metav1.MicroTime) string { return Since(metav1.Time(t)) }

// OrNone is the word, or None when there is none.
func OrNone(word string) string { return or(word, None) }

// OrUnknown is the word, or Unknown when there is none.
func OrUnknown(word string) string { return or(word, Unknown) }

func or(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// FirstOf lists the first of several words and says how many there are besides: "a,b,c + 2 more...".
func FirstOf(words []string, show int) string {
	if len(words) <= show {
		return strings.Join(words, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(words[:show], ","), len(words)-show)
}

// OrUnset is the word that is pointed to, or Unset.
func OrUnset[T ~string](word *T) string {
	if word == nil {
		return Unset
	}
	return string(*word)
}
