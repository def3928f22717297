package program_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(p *program.Program)
		want  string
	}{
		{"whole", func(p *program.Program) {
			f, o := p.Open("f", program.Cwd, "/x", unix.O_PATH)
			o.Tolerate(unix.ENOENT)
			p.IfOK(o, func() { p.Close(f) })
			p.Exit()
		}, ""},
		{"empty", func(p *program.Program) {}, "program is empty"},
		{"no end", func(p *program.Program) { p.Unshare(0) }, "ends with unshare"},
		{"empty register", func(p *program.Program) { p.Close(p.Reg("f")); p.Exit() }, "register that is empty"},
		{"empty register that is kept", func(p *program.Program) { p.Keep(3, p.Reg("f")); p.Exit() }, "keeps register"},
		{"working directory", func(p *program.Program) { p.Open("f", program.Cwd, "x", 0); p.Exit() }, "depends on the working directory"},
		{"clone in another pid namespace", func(p *program.Program) { p.Clone.PidNS = p.Input("ns"); p.ForkOn(0); p.Exit() }, "would not find"},
		{"tolerates too much", func(p *program.Program) { p.Unshare(0).Tolerate(1, 2, 3, 4, 5, 6, 7); p.Exit() }, "7 tolerated errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := program.New()
			c.build(p)
			err := p.Verify()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
