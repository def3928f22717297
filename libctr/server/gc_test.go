package server

import (
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"gantry/libctr/metadata"
)

// TestGCConfig: containerd's keys, and what is left out stays as it is.
func TestGCConfig(t *testing.T) {
	if got := defaultGCConfig().schedule(); got != metadata.DefaultSchedule() {
		t.Errorf("by default %+v", got)
	}
	cfg := defaultGCConfig()
	err := toml.Unmarshal([]byte("pause_threshold = 0.1\ndeletion_threshold = 5\nschedule_delay = '20ms'\nstartup_delay = '1s'\n"), cfg)
	want := metadata.Schedule{PauseThreshold: 0.1, DeletionThreshold: 5, MutationThreshold: 100, ScheduleDelay: 20 * time.Millisecond, StartupDelay: time.Second}
	if got := cfg.schedule(); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	raw, err := toml.Marshal(cfg)
	again := new(gcConfig)
	if err == nil {
		err = toml.Unmarshal(raw, again)
	}
	if err != nil || *again != *cfg {
		t.Errorf("written as\n%s\nand read as %+v, %v", raw, again, err)
	}
	if toml.Unmarshal([]byte("schedule_delay = 'soon'"), cfg) == nil {
		t.Error("no duration is taken for one")
	}
}
