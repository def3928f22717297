package cgroup

import (
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
)

func TestParseFlat(t *testing.T) {
	m := flat("nr_periods 5\nodd line here\nthrottled_time 7\n\nlimit max\n")
	if m["nr_periods"] != 5 || m["throttled_time"] != 7 || m["limit"] != unlimited || len(m) != 3 {
		t.Fatal(m)
	}
}

func TestParseBlkio(t *testing.T) {
	es := blkioEntries("8:0 Read 4096\n8:0 Total 4096\n259:1 77\nTotal 4096\nx:y Read 1\n")
	want := []*v1.BlkIOEntry{{Op: "Read", Major: 8, Value: 4096}, {Op: "Total", Major: 8, Value: 4096}, {Major: 259, Minor: 1, Value: 77}}
	if !proto.Equal(&v1.BlkIOStat{IoServicedRecursive: es}, &v1.BlkIOStat{IoServicedRecursive: want}) {
		t.Fatal(es)
	}
}

func TestParseIO(t *testing.T) {
	es := ioEntries("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:0 \n")
	want := []*v2.IOEntry{{Major: 8, Rbytes: 1, Wbytes: 2, Rios: 3, Wios: 4}, {Major: 254}}
	if !proto.Equal(&v2.IOStat{Usage: es}, &v2.IOStat{Usage: want}) {
		t.Fatal(es)
	}
}

func TestParsePressure(t *testing.T) {
	p := pressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n")
	want := &v2.PSIStats{Some: &v2.PSIData{Avg10: 1.5, Avg60: 0.25, Total: 9}, Full: &v2.PSIData{Total: 3}}
	if !proto.Equal(p, want) || pressure("") != nil {
		t.Fatal(p)
	}
}

func TestParseRdma(t *testing.T) {
	es := rdmaV2("mlx4_0 hca_handle=2 hca_object=max\n")
	if len(es) != 1 || es[0].Device != "mlx4_0" || es[0].HcaHandles != 2 || es[0].HcaObjects != 1<<32-1 {
		t.Fatal(es)
	}
}
