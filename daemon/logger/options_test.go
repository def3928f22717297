package logger_test

import (
	"maps"
	"strings"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/daemon/logger"
)

// opts reads "k=v k=v".
func opts(text string) map[string]string {
	out := map[string]string{}
	for f := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(f, "=")
		out[k] = v
	}
	return out
}

func TestOptions(t *testing.T) {
	local := logger.Files{Format: logfile.Local, MaxSize: 20 << 20, MaxFile: 5, Compress: true}
	for _, tt := range []struct {
		name, driver, opts string
		want               logger.Settings
		err                string
	}{
		{name: "local", driver: "local", want: logger.Settings{Driver: "local", Files: local}},
		{name: "local, one file", driver: "local", opts: "max-file=1 compress=false max-size=1k", want: logger.Settings{Driver: "local", Files: logger.Files{Format: logfile.Local, MaxSize: 1000, MaxFile: 1}}},
		{name: "local, no file", driver: "local", opts: "max-file=0 compress=false", want: logger.Settings{Driver: "local", Files: logger.Files{Format: logfile.Local, MaxSize: 20 << 20, MaxFile: 1}}},
		{name: "local, size", driver: "local", opts: "max-size=-1", err: "failed to initialize logging driver: invalid value for max-size: -1: invalid size: '-1'"},
		{name: "local, files", driver: "local", opts: "max-file=x", err: `failed to initialize logging driver: invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax`},
		{name: "local, fewer files", driver: "local", opts: "max-file=-1", err: "failed to initialize logging driver: max file count cannot be less than 0"},
		{name: "local, compress", driver: "local", opts: "compress=x", err: `failed to initialize logging driver: error reading compress log option: strconv.ParseBool: parsing "x": invalid syntax`},
		{name: "json-file, compressed", driver: "json-file", opts: "max-size=1m max-file=2 compress=1", want: logger.Settings{Driver: "json-file", Files: logger.Files{MaxSize: 1000000, MaxFile: 2, Compress: true}}},
		{name: "json-file, compressed without bound", driver: "json-file", opts: "max-size=-1 max-file=2 compress=1", err: "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set"},
		{name: "options of a cache that there is not", driver: "json-file", opts: "cache-max-size=x cache-disabled=true", want: logger.Settings{Driver: "json-file", Files: logger.Files{MaxFile: 1}}},
		{name: "non-blocking", driver: "local", opts: "mode=non-blocking", want: logger.Settings{Driver: "local", Files: local, NonBlocking: true, Buffer: 1e6}},
		{name: "buffer", driver: "local", opts: "mode=non-blocking max-buffer-size=4m", want: logger.Settings{Driver: "local", Files: local, NonBlocking: true, Buffer: 4 << 20}},
		{name: "buffer without end", driver: "local", opts: "mode=non-blocking max-buffer-size=4000t", want: logger.Settings{Driver: "local", Files: local, NonBlocking: true, Buffer: 1 << 30}},
		{name: "blocking", driver: "local", opts: "mode=blocking max-buffer-size=4m", err: "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{name: "remote", driver: "gelf", opts: "gelf-address=udp://127.0.0.1:9 cache-max-file=2", want: logger.Settings{Driver: "gelf", Remote: true, Files: logger.Files{Format: logfile.Local, MaxSize: 20 << 20, MaxFile: 2, Compress: true}}},
		{name: "remote, hidden", driver: "gelf", opts: "gelf-address=udp://127.0.0.1:9 cache-disabled=1", want: logger.Settings{Driver: "gelf", Remote: true, Hidden: true, Files: local}},
		{name: "remote, cache", driver: "gelf", opts: "gelf-address=udp://127.0.0.1:9 cache-max-size=x", err: "failed to initialize logging driver: invalid value for cache-max-size: x: invalid size: 'x'"},
		{name: "remote, not the cache's", driver: "gelf", opts: "gelf-address=udp://127.0.0.1:9 max-size=1m", err: `unknown log opt "max-size" for gelf log driver`},
		{name: "template", driver: "json-file", opts: "tag={{.ID", err: `failed to initialize logging driver: template: log-tag:1: unclosed action`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := logger.Parse(containertypes.LogConfig{Type: tt.driver, Config: opts(tt.opts)})
			switch {
			case tt.err != "":
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v", err)
				}
			case err != nil || got != tt.want:
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestPathAndURI(t *testing.T) {
	for driver, want := range map[string]string{
		"none": "", "json-file": "/d/id-json.log", "local": "/d/local-logs/container.log", "gelf": "/d/container-cached.log",
	} {
		c := containertypes.LogConfig{Type: driver}
		if driver == "gelf" {
			c.Config = opts("gelf-address=udp://127.0.0.1:9")
		}
		s, err := logger.Parse(c)
		if err != nil {
			t.Fatal(driver, err)
		}
		path := s.Path("/d", "id")
		if path != want {
			t.Errorf("%s is kept at %q", driver, path)
		}
		u, err := shimwire.ParseLogURI(s.URI(path, "/s", nil).String())
		if err != nil || u.Format() != s.Format || u.Compress != s.Compress || u.MaxSize != s.MaxSize || u.MaxFile != s.MaxFile {
			t.Errorf("%s comes as %+v, %v", driver, u, err)
		}
	}
}

// TestMergeCache pins that options of the cache reach containers of any driver.
func TestMergeCache(t *testing.T) {
	got := logger.Merge(containertypes.LogConfig{Type: "gelf", Config: opts("cache-max-file=2")},
		containertypes.LogConfig{Type: "json-file", Config: opts("max-size=1m cache-disabled=true cache-max-file=9")})
	if !maps.Equal(got.Config, opts("cache-disabled=true cache-max-file=2")) {
		t.Errorf("%v", got.Config)
	}
}

func TestTag(t *testing.T) {
	s := logger.Subject{
		ContainerID: strings.Repeat("c", 64), ContainerName: "/web", ContainerEntrypoint: "/bin/sh", ContainerArgs: []string{"-c", "true"},
		ContainerImageID: "sha256:" + strings.Repeat("1", 64), ContainerImageName: "nginx:1", DaemonName: logger.DaemonName,
		ContainerLabels: map[string]string{"a": "1"},
	}
	for tag, want := range map[string]string{
		"":                                         "cccccccccccc",
		"{{.FullID}}":                              strings.Repeat("c", 64),
		"{{.DaemonName}}/{{.Name}}":                "docker/web",
		"{{.ImageName}} {{.ImageID}}":              "nginx:1 sha256:11111",
		"{{.ImageFullID}}":                         "sha256:" + strings.Repeat("1", 64),
		"{{.Command}}":                             "/bin/sh -c true",
		"{{.ContainerName}}":                       "/web",
		"{{index .ContainerLabels \"a\"}}":         "1",
		"{{json .ContainerArgs}}":                  `["-c","true"]`,
		"{{join (split .ImageName \":\") \"-\"}}":  "nginx-1",
		"{{upper .Name}}{{lower \"X\"}}":           "WEBx",
		"{{title \"a bc\"}}":                       "A Bc",
		"{{pad .Name 1 2}}|{{pad \"\" 1 2}}|":      " web  ||",
		"{{truncate .Name 2}}{{truncate .Name 9}}": "weweb",
		"{{(.ExtraAttributes nil).a}}":             "1",
	} {
		s.Config = map[string]string{"tag": tag, "labels": "a"}
		if got, err := s.Tag("{{.ID}}"); err != nil || got != want {
			t.Errorf("%s: %q, %v", tag, got, err)
		}
	}
}
