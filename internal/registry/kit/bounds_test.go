package kit

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestFirstFaults(t *testing.T) {
	var all field.ErrorList
	for i := range maxFaults {
		all = append(all, field.Required(field.NewPath("a").Index(i), ""))
	}
	if got := firstFaults(all); len(got) != maxFaults {
		t.Errorf("of %d faults %d are told", len(all), len(got))
	}
	for range 50 {
		all = append(all, field.Required(field.NewPath("b"), ""))
	}
	got := firstFaults(all)
	if len(got) != maxFaults+1 || !strings.Contains(got.ToAggregate().Error(), "and 50 more faults, which are not listed") {
		t.Errorf("of %d faults are told %d: %v", len(all), len(got), got[len(got)-1])
	}
	if len(all) != maxFaults+50 || all[maxFaults].Field != "b" {
		t.Error("the list was changed")
	}
	var warnings []string
	for i := range maxWarnings + 2 {
		warnings = append(warnings, fmt.Sprint(i))
	}
	if got := firstWarnings(warnings); len(got) != maxWarnings+1 || got[maxWarnings] != "and 2 more warnings, which are not listed" {
		t.Errorf("warnings: %q", got[maxWarnings:])
	}
}
