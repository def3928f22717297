package router_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gantry/internal/testutil/transcript"
)

// waiting are the changes of what the engine does not do yet.
var waiting = []string{
	"BuildAux", "BuildOutputs", "BuildPlatform", // there is no builder
}

// TestEveryChangeIsPinned reads the table of versions. For each change some transcript
// says "# change: NAME" above two exchanges that differ in their version only, the last
// without the change and the first with it, and in their answers.
func TestEveryChangeIsPinned(t *testing.T) {
	pinned := pins(t)
	for name, since := range changes(t) {
		is, waits := pinned[pin{name, since}], slices.Contains(waiting, name)
		if is == waits {
			t.Errorf("%s, since %s: pinned %v, waiting %v", name, since, is, waits)
		}
		delete(pinned, pin{name, since})
	}
	for p := range pinned {
		t.Errorf("transcripts pin %s at %s, which the table does not say", p.name, p.since)
	}
}

// changes are the names and the first versions of the table's rows.
func changes(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "../api/rest/versions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			v := spec.(*ast.ValueSpec)
			row, ok := v.Values[0].(*ast.CompositeLit)
			if !ok || row.Type.(*ast.Ident).Name != "Change" {
				t.Fatalf("%s is no row of the table", v.Names[0].Name)
			}
			since, err := strconv.Unquote(row.Elts[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out[v.Names[0].Name] = since
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d changes were found", len(out))
	}
	return out
}

// pin is a change at the version that has it first.
type pin struct{ name, since string }

// pins are the differences that the transcripts show.
func pins(t *testing.T) map[pin]bool {
	out := map[pin]bool{}
	for _, dir := range []string{"*/testdata", "*/testdata/*", "../integration-cli/testdata"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			exchanges, err := transcript.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, pair := range pairs(exchanges) {
				for _, name := range named(pair[0]) {
					_, v, _ := cutVersion(pair[1].Request)
					out[pin{name, v}] = true
				}
			}
		}
	}
	return out
}

// pairs are the exchanges that a version turns into others.
func pairs(all []transcript.Exchange) (out [][2]transcript.Exchange) {
	for _, a := range all {
		for _, b := range all {
			before, v, ok := cutVersion(a.Request)
			since, w, okToo := cutVersion(b.Request)
			if ok && okToo && before == since && w == next(v) && slices.Equal(named(a), named(b)) &&
				strings.ReplaceAll(a.Answer, v, "") != strings.ReplaceAll(b.Answer, w, "") {
				out = append(out, [2]transcript.Exchange{a, b})
			}
		}
	}
	return out
}

// named are the changes that the comments above an exchange speak of.
func named(e transcript.Exchange) (out []string) {
	for _, c := range e.Comments {
		if list, ok := strings.CutPrefix(c, "change: "); ok {
			out = append(out, strings.Split(list, ", ")...)
		}
	}
	return out
}

var inPath = regexp.MustCompile(`^[A-Z]+ /v([0-9.]+)/`)

func cutVersion(request string) (rest, version string, ok bool) {
	at := inPath.FindStringSubmatchIndex(request)
	if at == nil {
		return request, "", false
	}
	return request[:at[2]] + request[at[3]:], request[at[2]:at[3]], true
}

func next(version string) string {
	minor, err := strconv.Atoi(strings.TrimPrefix(version, "1."))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("1.%d", minor+1)
}
