package task

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// endless are the calls to shims that have no deadline, by the function that makes them:
// they last as long as what they wait for, and nobody's lane does.
var endless = map[string]string{
	"Manager.Wait":   "Wait",    // for the end of a process; with the caller's context
	"Manager.listen": "Connect", // for a shim that did not answer at start; in the background
	"shim.ask":       "",        // the method is a parameter; ask sets the deadline itself
}

// TestDeadlines reads the package: every call to a shim names its deadline, no program is
// run without one but the shim itself, and nothing goes round conn.call.
func TestDeadlines(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if err := checkCall(funcName(fn), call, &calls); err != "" {
					t.Errorf("%s: %s: %s", set.Position(call.Pos()), funcName(fn), err)
				}
				return true
			})
		}
	}
	if calls < 15 {
		t.Errorf("found %d calls to shims only", calls)
	}
}

func checkCall(in string, call *ast.CallExpr, calls *int) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	on, _ := sel.X.(*ast.Ident)
	switch {
	case (sel.Sel.Name == "call" || sel.Sel.Name == "ask") && len(call.Args) == 5:
		*calls++
		timeout, ok := call.Args[1].(*ast.BasicLit)
		if !ok || timeout.Value != "0" {
			return ""
		}
		method := ""
		if lit, ok := call.Args[2].(*ast.BasicLit); ok {
			method, _ = strconv.Unquote(lit.Value)
		}
		if want, ok := endless[in]; !ok || want != method {
			return "call " + method + " has no deadline"
		}
	case sel.Sel.Name == "Call" && in != "ttrpcTransport.invoke", sel.Sel.Name == "Invoke" && in != "grpcTransport.invoke",
		sel.Sel.Name == "invoke" && in != "conn.callService":
		return "calls a shim without conn.call"
	case on != nil && on.Name == "exec" && sel.Sel.Name == "Command" && in != "Manager.execute":
		return "runs a program that nothing ends"
	}
	return ""
}

// funcName is "Type.Method" or "function".
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	return t.(*ast.Ident).Name + "." + f.Name.Name
}
