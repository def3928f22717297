package integrationcli

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestDiskUsage: what each kind of object takes, all of them or those that are asked for,
// and many callers at once are told the same.
func TestDiskUsage(t *testing.T) {
	e := start(t)
	e.Must("volume", "create", "idle")
	e.Must("run", "--name", "writer", "-v", "data:/data", image, "sh", "-c", "head -c 3000000 /dev/zero > /data/f; head -c 2000000 /dev/zero > /f")
	lines := strings.Split(e.Must("system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}"), "\n")
	if got := strings.Join(lines, " "); got != "Images|1|1 Containers|1|0 Local Volumes|2|1 Build Cache|0|0" {
		t.Errorf("df: %s", got)
	}
	if got := e.Must("system", "df", "-v"); !strings.Contains(got, "writer") || !strings.Contains(got, "idle") || !strings.Contains(got, "3MB") {
		t.Errorf("df -v:\n%s", got)
	}
	type usage struct {
		LayersSize *int64
		Images     []struct{ Size int64 }
		Containers []struct{ SizeRw int64 }
		Volumes    []struct {
			Name      string
			UsageData struct{ Size, RefCount int64 }
		}
		BuildCache []any
	}
	ask := func(query string) (u usage) {
		resp, err := e.HTTP().Get("http://x/v1.51/system/df" + query)
		if err != nil {
			t.Error(err)
			return u
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&u); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %v", query, resp.Status, err)
		}
		return u
	}
	all := ask("")
	if len(all.Images) != 1 || len(all.Containers) != 1 || len(all.Volumes) != 2 || all.BuildCache == nil || all.Containers[0].SizeRw < 2_000_000 {
		t.Errorf("all: %+v", all)
	}
	for _, v := range all.Volumes {
		if busy := v.Name == "data"; busy != (v.UsageData.RefCount == 1) || busy != (v.UsageData.Size >= 3_000_000) {
			t.Errorf("volume %+v", v)
		}
	}
	if u := ask("?type=volume"); u.Images != nil || u.Containers != nil || len(u.Volumes) != 2 || u.BuildCache != nil {
		t.Errorf("volumes alone: %+v", u)
	}
	if u := ask("?type=container&type=image"); len(u.Images) != 1 || len(u.Containers) != 1 || u.Volumes != nil {
		t.Errorf("two kinds: %+v", u)
	}
	want, _ := json.Marshal(all)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, _ := json.Marshal(ask("")); string(got) != string(want) {
				t.Errorf("among others: %s, want %s", got, want)
			}
		})
	}
	wg.Wait()
}

// TestExperimental: the flag is told by ping, version and info.
func TestExperimental(t *testing.T) {
	e := engine.Start(t, "--experimental")
	resp, err := e.HTTP().Get("http://x/_ping")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Docker-Experimental"); got != "true" {
		t.Errorf("ping says %q", got)
	}
	if got := e.Must("version", "-f", "{{.Server.Experimental}}") + e.Must("info", "-f", "{{.ExperimentalBuild}}"); got != "truetrue" {
		t.Errorf("version and info: %s", got)
	}
}
