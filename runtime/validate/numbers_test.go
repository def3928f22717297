package validate_test

import (
	"strings"
	"testing"

	"gantry/runtime/validate"
)

func TestParseNumbers(t *testing.T) {
	for list, want := range map[string][]int{
		"": nil, " , ,": nil, "0": {0}, "1-3,5": {1, 2, 3, 5}, " 7 ,, 1023 ": {7, 1023}, "63-65": {63, 64, 65},
	} {
		set, err := validate.ParseNumbers(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		var got []int
		for n := 0; set != nil && n <= validate.MaxNumber; n++ {
			if set.Has(n) {
				got = append(got, n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q: %v", list, got)
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("%q: %v", list, got)
			}
		}
	}
	for list, text := range map[string]string{
		"a": `"a" is no number`, "-1": `"" is no number`, "3-1": "invalid range: 3-1", "1024": "values larger than 1023 are not supported",
		"0-4294967295": "values larger than 1023", "1--2": `"-2" is no number`,
	} {
		if _, err := validate.ParseNumbers(list); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", list, err)
		}
	}
}
