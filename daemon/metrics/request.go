package metrics

import "time"

// Request notes how long a request took that went well, by its row: "POST /containers/create".
// Most rows are of no action that is counted.
func (m *Set) Request(row string, took time.Duration) {
	if m == nil {
		return
	}
	if act, ok := actions[row]; ok {
		act(m, took.Seconds())
	}
}

// actions are the rows that dockerd times.
var actions = map[string]func(m *Set, seconds float64){
	"POST /containers/create":        container("create"),
	"POST /containers/{name}/start":  container("start"),
	"DELETE /containers/{name}":      container("delete"),
	"GET /containers/{name}/changes": container("changes"),
	"POST /commit":                   container("commit"),
	"POST /images/create":            image("pull"),
	"POST /images/{name}/push":       image("push"),
	"DELETE /images/{name}":          image("delete"),
	"GET /images/{name}/history":     image("history"),
	"POST /networks/{id}/connect":    network("connect"),
	"POST /networks/{id}/disconnect": network("disconnect"),
	"GET /info":                      info("system_info"),
	"GET /version":                   info("system_version"),
}

func container(action string) func(*Set, float64) {
	return func(m *Set, s float64) { m.containers.WithLabelValues(action).Observe(s) }
}

func image(action string) func(*Set, float64) {
	return func(m *Set, s float64) { m.images.WithLabelValues(action).Observe(s) }
}

func network(action string) func(*Set, float64) {
	return func(m *Set, s float64) { m.networks.WithLabelValues(action).Observe(s) }
}

func info(function string) func(*Set, float64) {
	return func(m *Set, s float64) { m.host.WithLabelValues(function).Observe(s) }
}
