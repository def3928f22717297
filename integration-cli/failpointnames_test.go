package integrationcli

import (
	"debug/buildinfo"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// failpointed are the folders whose code may have fail points.
var failpointed = []string{"daemon", "libctr", "shim"}

// failpoints finds the names of all fail points in the source. Each must be a literal
// that begins with its package's folder, and there may be only one of it.
func failpoints(t *testing.T) (names []string) {
	t.Helper()
	for _, dir := range failpointed {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			folder := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "../"))
			for _, name := range hitsIn(t, path, f) {
				if !strings.HasPrefix(name, folder+".") || strings.Count(name, ".") != 2 {
					t.Errorf("%s: %q is not %s.OPERATION.STEP", path, name, folder)
				}
				if slices.Contains(names, name) {
					t.Errorf("%s: %q is used twice", path, name)
				}
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return names
}

func hitsIn(t *testing.T, path string, f *ast.File) (names []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := fun.X.(*ast.Ident); !ok || pkg.Name != "failpoint" {
			return true
		}
		var name string
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && len(call.Args) == 1 {
			name, _ = strconv.Unquote(lit.Value)
		}
		if name == "" {
			t.Errorf("%s: the name of a fail point is no literal", path)
			return true
		}
		names = append(names, name)
		return true
	})
	return names
}

// needFailpoints skips the test when the programs are built without the points.
func needFailpoints(t *testing.T) {
	t.Helper()
	info, err := buildinfo.ReadFile(engine.Binary(t, "gantryd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "failpoint") {
			return
		}
	}
	t.Skip("needs programs with fail points: build with -tags failpoint")
}
