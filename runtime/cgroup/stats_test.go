package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func TestParseFlat(t *testing.T) {
	m := flat("nr_periods 5\nodd line here\nthrottled_time 7\n\nlimit max\n")
	if m["nr_periods"] != 5 || m["throttled_time"] != 7 || m["limit"] != unlimited || len(m) != 3 {
		t.Fatal(m)
	}
}

func TestParseBlkio(t *testing.T) {
	es := blkioEntries("8:0 Read 4096\n8:0 Total 4096\n259:1 77\nTotal 4096\nx:y Read 1\n")
	want := []BlkIOEntry{{Op: "Read", Major: 8, Value: 4096}, {Op: "Total", Major: 8, Value: 4096}, {Major: 259, Minor: 1, Value: 77}}
	if !slices.Equal(es, want) {
		t.Fatal(es)
	}
}

func TestParseIO(t *testing.T) {
	es := ioEntries("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:0 \n")
	want := []IOEntry{{Major: 8, Rbytes: 1, Wbytes: 2, Rios: 3, Wios: 4}, {Major: 254}}
	if !slices.Equal(es, want) {
		t.Fatal(es)
	}
}

func TestParsePressure(t *testing.T) {
	p := pressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n")
	want := &PSI{Some: &PSIData{Avg10: 1.5, Avg60: 0.25, Total: 9}, Full: &PSIData{Total: 3}}
	if !reflect.DeepEqual(p, want) || pressure("") != nil {
		t.Fatal(p)
	}
}

func TestParseRdma(t *testing.T) {
	es := rdmaEntries("mlx4_0 hca_handle=2 hca_object=max\n")
	if len(es) != 1 || es[0].Device != "mlx4_0" || es[0].HcaHandles != 2 || es[0].HcaObjects != 1<<32-1 {
		t.Fatal(es)
	}
}

func TestRaw(t *testing.T) {
	one, two := &MemoryV1{}, &MemoryV2{}
	setStats(one, flat("pgpgin 3\nhierarchical_memsw_limit 4\ntotal_rss_huge 5\nswap 6\n"))
	setStats(two, flat("pgmajfault 3\nthp_fault_alloc 4\nzswap 6\n"))
	one.Usage, two.Usage = &MemoryEntry{Usage: 9}, 9
	if one.PgPgIn != 3 || one.HierarchicalSwapLimit != 4 || one.TotalRSSHuge != 5 || two.Pgmajfault != 3 || two.ThpFaultAlloc != 4 {
		t.Errorf("%+v, %+v", one, two)
	}
	for _, raw := range []map[string]uint64{one.Raw(), two.Raw()} {
		var sum uint64
		for _, n := range raw {
			sum += n
		}
		if len(raw) < 31 || raw["pgpgin"]+raw["pgmajfault"] != 3 || sum != 7 && sum != 12 {
			t.Error(raw)
		}
	}
}

// TestPidsLimitV2: no limit of processes is told as containerd tells it, as that of memory is.
func TestPidsLimitV2(t *testing.T) {
	for text, want := range map[string]uint64{"max\n": unlimited, "40\n": 40} {
		dir := t.TempDir()
		for name, content := range map[string]string{"pids.current": "1\n", "pids.max": text} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := (&unified{path: dir}).stats()
		if err != nil || s.V2.Pids == nil || *s.V2.Pids != (Pids{1, want}) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}
