package authorization_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	wire "gantry/api/authorization"
	"gantry/api/errdefs"
	"gantry/daemon/authorization"
	"gantry/daemon/plugin"
)

// questions are who was asked what.
type questions struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (q *questions) add(s string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, s)
}

// take returns them and forgets them.
func (q *questions) take() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := strings.Join(q.all, " ")
	q.all = nil
	return out
}

// judge runs a plugin that gives one answer.
func judge(t *testing.T, dir, name, answer string, asked *questions) {
	t.Helper()
	l, err := net.Listen("unix", dir+"/"+name+".sock")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Plugin.Activate" {
			io.WriteString(w, `{"Implements":["authz"]}`)
			return
		}
		asked.add(name + r.URL.Path)
		if answer == "hang" {
			io.Copy(io.Discard, r.Body) // else the server would not see the client go
			<-r.Context().Done()
			return
		}
		io.WriteString(w, answer)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

func TestChain(t *testing.T) {
	dir, asked := t.TempDir(), &questions{}
	for name, answer := range map[string]string{
		"yes": `{"Allow":true}`, "no": `{"Allow":false,"Msg":"no way"}`, "err": `{"Allow":true,"Err":"broken"}`,
		"noerr": `{"Err":"not for you"}`, "empty": `{}`, "silly": `yes`, "hang": "hang", "second": `{"Allow":true}`,
	} {
		judge(t, dir, name, answer, asked)
	}
	s := authorization.New(plugin.Directories{Sockets: []string{dir}}, slog.New(slog.DiscardHandler))
	if s.Asker() != nil {
		t.Error("somebody is asked without plugins")
	}
	for _, tc := range []struct{ names, want, asked string }{
		{"yes", "", "yes"},
		{"yes second yes", "", "yes second"},
		{"no", "authorization denied by plugin no: no way", "no"},
		{"yes no second", "authorization denied by plugin no: no way", "yes no"},
		{"err second", "plugin err failed with error: broken", "err"},
		{"noerr", "authorization denied by plugin noerr: not for you", "noerr"},
		{"empty", "authorization denied by plugin empty: ", "empty"},
		{"silly", "plugin silly failed with error: AuthZPlugin.AuthZReq: invalid character 'y'", "silly"},
		{"hang second", "plugin hang failed with error: Post ", "hang"},
		{"second yes", "", "second yes"},
	} {
		chain, err := s.Wake(t.Context(), strings.Fields(tc.names))
		if err != nil {
			t.Fatal(err)
		}
		s.Use(chain)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if strings.HasPrefix(tc.names, "hang") {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		err = s.Asker().Request(ctx, &wire.Request{RequestMethod: "GET"})
		cancel()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %s", tc.names, err, tc.want)
		}
		if denied := strings.Contains(tc.want, "denied"); tc.want != "" && (errors.Is(err, errdefs.ErrPermissionDenied) != denied || errors.Is(err, errdefs.ErrInternal) == denied) {
			t.Errorf("%s: class of %v", tc.names, err)
		}
		if got := strings.ReplaceAll(asked.take(), "/AuthZPlugin.AuthZReq", ""); got != tc.asked {
			t.Errorf("%s: asked %s", tc.names, got)
		}
	}
	old := s.Asker()
	if err := s.Close(); err != nil || s.Asker() != nil {
		t.Errorf("closed: %v, %v", err, s.Asker())
	}
	if _ = old.Response(t.Context(), &wire.Request{}); asked.take() == "" { // what began goes on with those it began with
		t.Error("a request under way is not asked about any more")
	}
}
