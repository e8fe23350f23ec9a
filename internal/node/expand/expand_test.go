package expand

import "testing"

func TestExpand(t *testing.T) {
	known := map[string]string{"A": "a", "B": "$(A)", "EMPTY": ""}
	lookup := func(name string) (string, bool) { value, ok := known[name]; return value, ok }
	for in, want := range map[string]string{
		"":                "",
		"plain":           "plain",
		"$(A)":            "a",
		"x$(A)y$(A)z":     "xayaz",
		"$$(A)":           "$(A)",
		"$$$(A)":          "$a",
		"$$$$(A)":         "$$(A)",
		"$(B)":            "$(A)",
		"$(EMPTY)":        "",
		"$(NONE)":         "$(NONE)",
		"$()":             "$()",
		"$":               "$",
		"a$":              "a$",
		"$A":              "$A",
		"$(A":             "$(A",
		"$(A$(A)":         "$(A$(A)",
		"$é(A)":           "$é(A)",
		"$(A)$":           "a$",
		"--$(A)--$$":      "--a--$",
		"$(A)(A)$(A":      "a(A)$(A",
		"foo\\$(A)":       "foo\\a",
		"$(A.B-C)":        "$(A.B-C)",
		"$((A))":          "$((A))",
		"\n$(A)\n":        "\na\n",
		"$(A)$(NONE)$(A)": "a$(NONE)a",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
