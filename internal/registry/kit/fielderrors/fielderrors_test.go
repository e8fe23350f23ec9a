package fielderrors

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

type colour string

func TestList(t *testing.T) {
	var l List
	at := field.NewPath("spec").Child("x")
	l.Required(at, "say so")
	l.InvalidEach(at.Index(0), "v", []string{"is bad", "is worse"})
	l.Forbidden(at, "not here")
	l.Duplicate(at, "v")
	l.NotFound(at, "v")
	l.TooLong(at, 3)
	l.TooMany(at, 5, 4)
	l.Add(field.InternalError(at, errFor("it broke")))
	want := []string{
		"spec.x: Required value: say so",
		`spec.x[0]: Invalid value: "v": is bad`,
		`spec.x[0]: Invalid value: "v": is worse`,
		"spec.x: Forbidden: not here",
		`spec.x: Duplicate value: "v"`,
		`spec.x: Not found: "v"`,
		"spec.x: Too long: may not be more than 3 bytes",
		"spec.x: Too many: 5: must have at most 4 items",
		"spec.x: Internal error: it broke",
	}
	if got := texts(l); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := (List{}).Errors(); len(got) != 0 {
		t.Errorf("no faults, and there are %v", got)
	}
}

type errFor string

func (e errFor) Error() string { return string(e) }

func texts(l List) (out []string) {
	for _, f := range l.Errors() {
		out = append(out, f.Error())
	}
	return out
}

func TestOneOf(t *testing.T) {
	for _, tc := range []struct {
		value    colour
		required bool
		want     []string
	}{
		{value: "red"},
		{value: "blue", want: []string{`c: Unsupported value: "blue": supported values: "red", "green"`}},
		{value: "", want: []string{`c: Unsupported value: "": supported values: "red", "green"`}},
		{value: "green", required: true},
		{value: "blue", required: true, want: []string{`c: Unsupported value: "blue": supported values: "red", "green"`}},
		{value: "", required: true, want: []string{"c: Required value"}},
	} {
		var l List
		at := field.NewPath("c")
		if tc.required {
			OneOfRequired(&l, at, tc.value, "red", "green")
		} else if OneOf(&l, at, tc.value, "red", "green") != (tc.want == nil) {
			t.Errorf("%q: supported and not", tc.value)
		}
		if got := texts(l); !slices.Equal(got, tc.want) {
			t.Errorf("%q, required %v: %q, want %q", tc.value, tc.required, got, tc.want)
		}
	}
}

func TestKeys(t *testing.T) {
	if got := Keys(map[string]int{"b": 1, "a": 2, "c": 3}); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %v", got)
	}
}
