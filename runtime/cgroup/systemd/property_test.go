package systemd

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func text(props []Property) (out []string) {
	for _, p := range props {
		out = append(out, fmt.Sprintf("%s=%s", p.Name, p.Value))
	}
	return out
}

func TestUnitProperties(t *testing.T) {
	extra := []Property{Prop("CollectMode", "inactive-or-failed")}
	u := Unit{Name: "docker-x.scope", Slice: "system.slice"}
	want := []string{`Description="container x"`, `Slice="system.slice"`, "Delegate=true", "PIDs=@au [7]", "MemoryAccounting=true", "CPUAccounting=true",
		"IOAccounting=true", "TasksAccounting=true", "DefaultDependencies=false", `CollectMode="inactive-or-failed"`}
	if got := text(u.Properties(V2, "x", 7, extra)); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if got := strings.Join(text(u.Properties(V1, "x", 7, nil)), " "); !strings.Contains(got, "BlockIOAccounting=true") || strings.Contains(got, " IOAccounting") {
		t.Error(got)
	}
	u = Unit{Name: "a.slice", Slice: "system.slice"}
	if got := strings.Join(text(u.Properties(V2, "x", 0, nil)), " "); !strings.Contains(got, `Wants=["system.slice"]`) || strings.Contains(got, "PIDs") || strings.Contains(got, "Delegate") {
		t.Error(got)
	}
}

func TestAnnotations(t *testing.T) {
	got, err := Annotations(map[string]string{
		"org.systemd.property.TimeoutStopUSec": "uint64 5000000",
		"org.systemd.property.RuntimeMaxSec":   "uint32 3",
		"org.systemd.property.CollectMode":     "'inactive-or-failed'",
		"org.systemd.property.SECSec":          "1.5",
		"org.systemd.property.Braces":          `'{[(\'{'`,
		"org.systemd.property.StopSec":         "1.5",
		"org.systemd.property.ASec":            "true", // a capital before it: not a time
		"org.systemd.propertyX":                "not ours",
		"other":                                "1",
	})
	want := []string{"ASec=true", `Braces="{[('{"`, `CollectMode="inactive-or-failed"`, "RuntimeMaxUSec=@t 3000000", "SECSec=@d 1.5", "StopUSec=@t 1500000", "TimeoutStopUSec=@t 5000000"}
	if err != nil || !reflect.DeepEqual(text(got), want) {
		t.Errorf("%q, %v", text(got), err)
	}
	for key, value := range map[string]string{
		"Ab": "1", "Time-Out": "1", "Time2": "1", "": "1", "CollectMode": "'open", "StopSec": "'text'", "StopSe": "uint99 1",
		"Dictionary": "{1: {1: {1: {1: {1: 1}}}}}", "Deep": "[[[[[1]]]]]", "Long": "'" + strings.Repeat("x", 5000) + "'",
		"MaxSec": "uint64 18446744073709551615", "NegSec": "-1.0", "NegativeSec": "-1",
	} {
		if _, err := Annotations(map[string]string{annotationPrefix + key: value}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}

func TestBits(t *testing.T) {
	for in, want := range map[string][]byte{
		"0": {1}, "0-3": {0x0f}, "1,3-5": {0x3a}, " 8 ,, 0 ": {1, 1}, "15-16": {0, 0x80, 1},
	} {
		if got, err := Bits(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %x, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ",", "3-1", "x", "1-", "-1", "0-4294967295", "4294967296"} {
		if got, err := Bits(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %x, %v", in, got, err)
		}
	}
}

func TestQuota(t *testing.T) {
	for _, tc := range []struct {
		why     string
		quota   int64
		period  uint64
		set     bool
		want    string
		rounded int64
	}{
		{"half", 50000, 100000, true, "[CPUQuotaPeriodUSec=@t 100000 CPUQuotaPerSecUSec=@t 500000]", 50000},
		{"the period stays", 20000, 50000, false, "[CPUQuotaPerSecUSec=@t 400000]", 20000},
		{"the default period", 20000, 0, false, "[CPUQuotaPerSecUSec=@t 200000]", 20000},
		{"to a whole percent", 12345, 100000, false, "[CPUQuotaPerSecUSec=@t 130000]", 13000},
		{"no limit", -1, 100000, false, "[CPUQuotaPerSecUSec=@t 18446744073709551615]", -1},
		{"no number that overflows", 1 << 62, 100000, false, "[CPUQuotaPerSecUSec=@t 18446744073709551615]", 1 << 62},
	} {
		props, rounded := Quota(tc.quota, tc.period, tc.set)
		if got := fmt.Sprint(text(props)); got != tc.want || rounded != tc.rounded {
			t.Errorf("%s: %s, %d", tc.why, got, rounded)
		}
	}
}
