package server

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"gantry/router/httputil"
	"gantry/router/route"
)

// table finds the row of a request. A mux tries its rows one after the other, each with
// a regular expression; so the method and the first word of the path choose among small
// ones.
type table struct{ rows []row }

type row struct {
	route.Route
	handler http.Handler
}

func (t *table) add(rt route.Route, h http.Handler) { t.rows = append(t.rows, row{rt, h}) }

// choice is what stands first in a request.
type choice struct{ method, word string }

// handler serves the rows added so far; the first that matches is taken.
func (t *table) handler() http.Handler {
	small := map[choice]http.Handler{}
	for _, r := range t.rows {
		at := choice{r.Method, firstWord(r.Path)}
		if small[at] == nil {
			small[at] = t.only(at)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := small[choice{r.Method, firstWord(r.URL.Path)}]
		if h == nil {
			h = small[choice{r.Method, ""}]
		}
		if h == nil {
			h = http.HandlerFunc(httputil.PageNotFound)
		}
		h.ServeHTTP(w, r)
	})
}

// only is a mux of the rows that a request with at may match, in their order.
func (t *table) only(at choice) http.Handler {
	m := mux.NewRouter().SkipClean(true)
	for _, r := range t.rows {
		if word := firstWord(r.Path); r.Method == at.method && (word == at.word || word == "") {
			m.Path(r.Path).Methods(r.Method).Handler(r.handler)
		}
	}
	m.NotFoundHandler = http.HandlerFunc(httputil.PageNotFound)
	m.MethodNotAllowedHandler = m.NotFoundHandler
	return m
}

// firstWord is what stands between the first two slashes, "" for a variable.
func firstWord(path string) string {
	word, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if strings.Contains(word, "{") {
		return ""
	}
	return word
}
