package event_test

import (
	"testing"

	"gantry/libctr/event"
	"gantry/libctr/event/eventtest"
)

func TestSuite(t *testing.T) {
	eventtest.Run(t, func(*testing.T) eventtest.Exchange { return event.NewExchange() })
}
