package tag_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"gantry/daemon/logger/tag"
)

type subject struct {
	Name            string
	ContainerEnv    []string
	ContainerLabels map[string]string
	Created         time.Time
}

func sample() *subject {
	env := make([]string, 1000)
	for i := range env {
		env[i] = fmt.Sprintf("K%d=%s", i, strings.Repeat("v", 1000))
	}
	return &subject{Name: "web", ContainerEnv: env, ContainerLabels: map[string]string{"a": "1", "b": "2"}, Created: time.Unix(1e9, 0)}
}

func TestFill(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Name}}/x": "web/x",
		"{{range $k, $v := .ContainerLabels}}{{$k}}{{$v}} {{end}}":             "a1 b2 ",
		"{{with .Name}}{{upper .}}{{else}}none{{end}}":                         "WEB",
		`{{index (split (index .ContainerEnv 7) "=") 0}}`:                      "K7",
		`{{printf "%s-%5d" .Name 7 | print}}`:                                  "web-    7",
		`{{html "<"}}{{js "'"}}{{urlquery "&"}}{{println .Name}}`:              "&lt;\\'%26web\n",
		`{{define "unused"}}{{end}}`:                                           "",
		`{{pad .Name 1 2}}|{{truncate .Name 2}}|{{title "a b"}}`:               " web  |we|A B",
		`{{join (split "a,b" ",") "+"}}{{lower "X"}}{{json .Name}}{{/* c */}}`: `a+bx"web"`,
	} {
		if got, err := tag.Fill(text, sample()); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// TestFillIsBounded: none of these runs for long or takes much memory, and all are refused.
func TestFillIsBounded(t *testing.T) {
	doubled := func(f string) string { return `{{"\\\\\\&<" ` + strings.Repeat("| "+f, 60) + "}}" }
	var calls strings.Builder
	for i := range 40 {
		fmt.Fprintf(&calls, `{{define "t%d"}}{{template "t%d"}}{{template "t%d"}}{{end}}`, i, i+1, i+1)
	}
	for _, text := range []string{
		"{{range 1000000000000}}{{end}}",
		"{{$n := 1000000000000}}{{range $n}}{{end}}",
		"{{with .Created}}{{range .UnixNano}}{{end}}{{end}}",
		"{{range .ContainerEnv}}{{range $.ContainerEnv}}{{end}}{{end}}",
		"{{range .ContainerEnv}}{{range .}}{{end}}{{end}}",
		calls.String() + `{{define "t40"}}{{end}}{{template "t0"}}`,
		`{{block "b" .}}{{end}}`,
		`{{if true}}{{template "x"}}{{end}}`,
		`{{$x := "aaaaaaaa"}}` + strings.Repeat("{{$x = print $x $x}}", 60),
		doubled(`printf "%[1]s%[1]s"`),
		doubled("js"),
		doubled("json"),
		doubled("printf `%q`"),
		`{{printf "%1000000000d" 1}}`,
		`{{printf "%*d" 1000000 1}}`,
		`{{$x := printf "%1000000d" 1}}`,
		`{{$x := print .ContainerEnv}}`,
		`{{$x := json .}}`,
		`{{$x := join .ContainerEnv ""}}`,
		`{{$x := join (split "aaaaaaaaaaaaaaaa" "") (print ` + strings.Repeat("1", 1000) + `)}}`,
		`{{$x := pad "x" 1000000000 1}}`,
		strings.Repeat(" ", 5000),
		"{{.Name}}" + strings.Repeat("x", 4090),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := tag.Fill(text, sample())
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.80s: allowed, %.20q", text, got)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%.80s: %d bytes", text, n)
		}
	}
}

func FuzzFill(f *testing.F) {
	f.Add("{{.Name}}")
	f.Add(`{{range $k, $v := .ContainerLabels}}{{printf "%s" $k | js}}{{end}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := tag.Fill(text, sample()); err == nil && len(got) > 4<<10 {
			t.Errorf("%d bytes", len(got))
		}
	})
}
