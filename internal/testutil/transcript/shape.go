package transcript

import (
	"bytes"
	"encoding/json"
	"slices"
)

// shaped is the comment above exchanges whose answers differ each time: of their JSON
// is shown what fields there are and of what type.
const shaped = "# shape"

// shape replaces the values of JSON lines by their types. Objects have their fields in
// order, lists one of each kind of elements.
func shape(lines []string) []string {
	out := slices.Clone(lines)
	for i, line := range out {
		var v any
		if line == "" || line[0] != '{' && line[0] != '[' || json.Unmarshal([]byte(line), &v) != nil {
			continue
		}
		out[i] = marshal(types(v))
	}
	return out
}

func types(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = types(v[k])
		}
		return v
	case []any:
		var kinds []any
		seen := map[string]bool{}
		for _, element := range v {
			t := types(element)
			if key := marshal(t); !seen[key] {
				seen[key] = true
				kinds = append(kinds, t)
			}
		}
		slices.SortFunc(kinds, func(a, b any) int { return bytes.Compare([]byte(marshal(a)), []byte(marshal(b))) })
		return append([]any{}, kinds...)
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	}
	return v
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON a moment ago
	}
	return string(b)
}
