package change_test

import (
	"encoding/json"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/daemon/image/change"
)

func base() dockerspec.DockerOCIImageConfig {
	var c dockerspec.DockerOCIImageConfig
	c.Cmd = []string{"old"}
	c.Env = []string{"PATH=/bin", "A=1"}
	c.WorkingDir = "/srv"
	c.Labels = map[string]string{"l": "1"}
	return c
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		why     string
		changes []string
		want    string // the configuration as JSON
	}{
		{"nothing", nil, `{"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"cmd in the shell", []string{"CMD echo $A"}, `{"Env":["PATH=/bin","A=1"],"Cmd":["/bin/sh","-c","echo $A"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"cmd as JSON, lower case", []string{`cmd ["a","b c"]`}, `{"Env":["PATH=/bin","A=1"],"Cmd":["a","b c"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"entrypoint drops an inherited cmd", []string{`ENTRYPOINT ["e"]`}, `{"Env":["PATH=/bin","A=1"],"Entrypoint":["e"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"entrypoint keeps a new cmd", []string{`CMD ["c"]`, `ENTRYPOINT ["e"]`}, `{"Env":["PATH=/bin","A=1"],"Entrypoint":["e"],"Cmd":["c"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"env replaces and adds", []string{"ENV A=2 B=x$PATH", "ENV C c d"}, `{"Env":["PATH=/bin","A=2","B=x/bin","C=c d"],"Cmd":["old"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"label", []string{`LABEL l=2 "m n"="o p"`}, `{"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/srv","Labels":{"l":"2","m n":"o p"}}`},
		{"expose", []string{"EXPOSE 80 53/udp 8000-8001"}, `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}},"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/srv","Labels":{"l":"1"}}`},
		{"user, volume, stop signal, onbuild", []string{"USER $A:b", "VOLUME /v /w", "STOPSIGNAL SIGINT", "ONBUILD RUN x"},
			`{"User":"1:b","Env":["PATH=/bin","A=1"],"Cmd":["old"],"Volumes":{"/v":{},"/w":{}},"WorkingDir":"/srv","Labels":{"l":"1"},"StopSignal":"SIGINT","OnBuild":["RUN x"]}`},
		{"workdir below", []string{"WORKDIR a/b"}, `{"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/srv/a/b","Labels":{"l":"1"}}`},
		{"workdir", []string{"WORKDIR /a"}, `{"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/a","Labels":{"l":"1"}}`},
		{"health check", []string{"HEALTHCHECK --interval=5s --retries=2 CMD true"},
			`{"Env":["PATH=/bin","A=1"],"Cmd":["old"],"WorkingDir":"/srv","Labels":{"l":"1"},"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Retries":2}}`},
	} {
		in := base()
		got, err := change.Apply(in, c.changes)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		p, _ := json.Marshal(got)
		if string(p) != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.why, p, c.want)
		}
		before, _ := json.Marshal(base())
		if after, _ := json.Marshal(in); string(after) != string(before) {
			t.Errorf("%s: the configuration given was changed to %s", c.why, after)
		}
	}
}

func TestApplyErrors(t *testing.T) {
	for change1, want := range map[string]string{
		"RUN x":           "RUN is not a valid change command",
		"FROM x":          "FROM is not a valid change command",
		"nonsense":        "nonsense is not a valid change command",
		"EXPOSE x":        "invalid containerPort: x",
		"STOPSIGNAL NOPE": "invalid signal: NOPE",
		"ENV":             "ENV requires at least one argument",
		"VOLUME":          "VOLUME requires at least one argument",
		"WORKDIR":         "WORKDIR requires exactly one argument",
	} {
		_, err := change.Apply(base(), []string{change1})
		if !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("%s: %v, want %s", change1, err, want)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add("CMD [\"a\"]\nENV A=1")
	f.Add("HEALTHCHECK --interval=5s CMD x")
	f.Add("# escape=`\nLABEL a=`")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			t.Skip()
		}
		_, err := change.Apply(base(), []string{text})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("class of %v", err)
		}
	})
}
