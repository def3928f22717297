package container

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
)

// An update that a death of the daemon has cut off between record and task is ended by
// the next one, when the shim answers.
func TestUpdateLeft(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := t.Context()
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.Memory = 64 << 20 })
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		e := s.entry(id)
		restore := func() {
			s.updateLeft(e)
			synctest.Wait()
		}
		restore()
		if w.limits != "" {
			t.Errorf("limits without an update: %s", w.limits)
		}
		if err := os.WriteFile(s.updatingPath(e), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.fail["task update"] = errBroken
		restore()
		if _, err := os.Stat(s.updatingPath(e)); err != nil {
			t.Errorf("forgotten, and not done: %v", err)
		}
		delete(w.fail, "task update")
		restore()
		if _, err := os.Stat(s.updatingPath(e)); err == nil || !strings.Contains(w.limits, "67108864") {
			t.Errorf("not ended: %v, limits %s", err, w.limits)
		}
		if _, err := s.Update(ctx, id, containertypes.UpdateConfig{Resources: containertypes.Resources{CPUShares: 7}}); err != nil || !strings.Contains(w.limits, `"shares":7`) {
			t.Errorf("update: %v, limits %s", err, w.limits)
		}
		if _, err := os.Stat(s.updatingPath(e)); err == nil {
			t.Error("an update that has ended is noted")
		}
	})
}
