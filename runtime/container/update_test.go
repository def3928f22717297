package container

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func resources(t *testing.T, text string) *specs.LinuxResources {
	t.Helper()
	r := &specs.LinuxResources{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMergeResources(t *testing.T) {
	for _, c := range []struct{ kept, update, want string }{
		{`{}`, `{"pids":{"limit":5}}`, `{"pids":{"limit":5}}`},
		{`{"memory":{"limit":1,"swap":2},"cpu":{"shares":3}}`, `{"memory":{"limit":9}}`, `{"memory":{"limit":9,"swap":2},"cpu":{"shares":3}}`},
		{`{"devices":[{"allow":false,"access":"rwm"}]}`, `{"cpu":{"cpus":"0"}}`, `{"devices":[{"allow":false,"access":"rwm"}],"cpu":{"cpus":"0"}}`},
		{`{"devices":[{"allow":false,"access":"rwm"}]}`, `{"devices":[{"allow":true,"access":"r"}]}`, `{"devices":[{"allow":true,"access":"r"}]}`},
		{`{"unified":{"a.b":"1","c.d":"2"}}`, `{"unified":{"c.d":"3"}}`, `{"unified":{"a.b":"1","c.d":"3"}}`},
		{`{"hugepageLimits":[{"pageSize":"2MB","limit":1},{"pageSize":"1GB","limit":2}]}`, `{"hugepageLimits":[{"pageSize":"2MB","limit":7}]}`,
			`{"hugepageLimits":[{"pageSize":"2MB","limit":7},{"pageSize":"1GB","limit":2}]}`},
		{`{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"weightDevice":[{"major":8,"minor":0,"weight":20,"leafWeight":30}]}}`,
			`{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":2},{"major":8,"minor":0,"rate":3}],"weightDevice":[{"major":8,"minor":0,"weight":40}]}}`,
			`{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":40}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":3},{"major":8,"minor":16,"rate":2}]}}`},
	} {
		got, err := mergeResources(resources(t, c.kept), resources(t, c.update))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(got); string(b) != c.want {
			t.Errorf("%s with %s\ngot  %s\nwant %s", c.kept, c.update, b, c.want)
		}
	}
	if got, err := mergeResources(nil, resources(t, `{"pids":{"limit":5}}`)); err != nil || *got.Pids.Limit != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWithSwap(t *testing.T) {
	kept := resources(t, `{"memory":{"limit":64,"swap":128}}`)
	for update, want := range map[string]string{
		`{"memory":{"limit":100}}`:          `{"memory":{"limit":100,"swap":128}}`,
		`{"memory":{"swap":200}}`:           `{"memory":{"limit":64,"swap":200}}`,
		`{"memory":{"swap":-1}}`:            `{"memory":{"swap":-1}}`,
		`{"memory":{"limit":-1}}`:           `{"memory":{"limit":-1}}`,
		`{"memory":{"limit":10,"swap":20}}`: `{"memory":{"limit":10,"swap":20}}`,
		`{"memory":{"reservation":10}}`:     `{"memory":{"reservation":10}}`,
		`{"cpu":{"shares":10}}`:             `{"cpu":{"shares":10}}`,
	} {
		if b, _ := json.Marshal(withSwap(resources(t, update), kept)); string(b) != want {
			t.Errorf("%s: %s, want %s", update, b, want)
		}
	}
}

func TestSubCgroups(t *testing.T) {
	paths := map[string]string{"cpu": "/c/cpu/x", "cpuacct": "/c/cpu/x", "memory": "/c/mem/x", "": "/c/u/x"}
	for _, c := range []struct{ sub, want map[string]string }{
		{map[string]string{"": "a"}, map[string]string{"/c/cpu/x": "/c/cpu/x/a", "/c/mem/x": "/c/mem/x/a", "/c/u/x": "/c/u/x/a"}},
		{map[string]string{"": "/"}, map[string]string{"/c/cpu/x": "/c/cpu/x", "/c/mem/x": "/c/mem/x", "/c/u/x": "/c/u/x"}},
		{map[string]string{"cpu": "a", "cpuacct": "a"}, map[string]string{"/c/cpu/x": "/c/cpu/x/a", "/c/mem/x": "/c/mem/x", "/c/u/x": "/c/u/x"}},
		{map[string]string{"cpu": "a", "cpuacct": "b"}, nil},
		{map[string]string{"cpu": "../y"}, nil},
		{map[string]string{"": "../xy"}, nil},
		{map[string]string{"rdma": "a"}, nil},
	} {
		got, err := subCgroups(paths, c.sub)
		if (err == nil) != (c.want != nil) {
			t.Errorf("%v: %v", c.sub, err)
		}
		for dir, want := range c.want {
			if got[dir] != want {
				t.Errorf("%v: %s is %s, want %s", c.sub, dir, got[dir], want)
			}
		}
	}
}
