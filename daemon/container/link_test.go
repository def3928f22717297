package container

import (
	"strings"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
)

func TestLinks(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		db := w.make(s, "db", nil)
		w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.Links = []string{"db:data", "/db:/other/store"} })
		names := func() string {
			all, err := s.List(ctx, containertypes.ListOptions{All: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if c.ID == db {
					return strings.Join(c.Names, " ")
				}
			}
			return ""
		}
		want := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		want("links", linksOf(t, s, "web"), "/db:/web/data /db:/web/store")
		want("names", names(), "/db /web/data /web/store")
		if e, err := s.find("/web/data"); err != nil || e.id != db {
			t.Errorf("find by the link's name: %v", err)
		}
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); text(err) != "Cannot link to a non running container: /db AS /web/data" {
			t.Errorf("start: %v", err)
		}

		if err := s.Rename(ctx, "web", "shop"); err != nil {
			t.Fatal(err)
		}
		want("links after a rename", linksOf(t, s, "shop"), "/db:/shop/data /db:/shop/store")
		want("names after a rename", names(), "/db /shop/data /shop/store")

		s.Close() //nolint:errcheck // the daemon of before
		s = w.service()
		defer s.Close()
		if e, err := s.find("shop/store"); err != nil || e.id != db {
			t.Errorf("after a restart: %v", err)
		}
		err := s.Remove(ctx, "db", containertypes.RemoveOptions{RemoveLinks: true})
		want("default name", text(err), "Conflict, cannot remove the default link name of the container")
		if err := s.Remove(ctx, "/shop/data", containertypes.RemoveOptions{RemoveLinks: true}); err != nil {
			t.Errorf("remove a link: %v", err)
		}
		want("links less one", linksOf(t, s, "shop"), "/db:/shop/store")
		if _, err := s.find("shop/data"); !errdefs.IsNotFound(err) {
			t.Errorf("the removed link's name: %v", err)
		}

		if err := s.Remove(ctx, "db", containertypes.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.find("shop/store"); !errdefs.IsNotFound(err) {
			t.Errorf("name of a dead link: %v", err)
		}
		want("a dead link", linksOf(t, s, "shop"), "/db:/shop/store")
		err = s.Start(ctx, "shop", containertypes.StartOptions{})
		want("start with a dead link", text(err), "Cannot link to a non running container: /db AS /shop/store")
	})
}

func linksOf(t *testing.T, s *Service, ref string) string {
	t.Helper()
	c, err := s.Inspect(t.Context(), ref, false)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(c.HostConfig.Links, " ")
}

// TestStartOrder: who needs another is started after it, however long the chain.
func TestStartOrder(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		w.make(s, "c1", nil)
		w.make(s, "c2", func(o *apicontainer.CreateOptions) { o.HostConfig.Links = []string{"c1"} })
		w.make(s, "c3", func(o *apicontainer.CreateOptions) { o.HostConfig.NetworkMode = "container:c2" })
		w.make(s, "c4", func(o *apicontainer.CreateOptions) { o.HostConfig.IpcMode = "container:none" })
		var got []string
		for _, wave := range s.inStartOrder() {
			names := map[string]bool{}
			for _, e := range wave {
				names[e.snapshot().Name] = true
			}
			line := ""
			for _, n := range []string{"c1", "c2", "c3", "c4"} {
				if names[n] {
					line += n
				}
			}
			got = append(got, line)
		}
		if strings.Join(got, " ") != "c1c4 c2 c3" {
			t.Errorf("waves %v", got)
		}
	})
}
