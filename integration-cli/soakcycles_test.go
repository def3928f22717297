package integrationcli

import (
	"fmt"
	"testing"
)

// TestSoakCycles runs and kills containers in eight lanes; the daemon holds no more
// afterwards than before, and nothing of them is left.
func TestSoakCycles(t *testing.T) {
	e := start(t)
	n := scale(1000, 24)
	cycle := func(lane, i int) error {
		c := sleeper("bridge")
		switch lane % 4 {
		case 1:
			c = sleeper("none")
		case 2:
			c["ExposedPorts"] = object{"80/tcp": object{}}
			c["HostConfig"] = object{"PublishAllPorts": true}
		case 3:
			c["Volumes"] = object{"/data": object{}}
		}
		text, err := want(e, 201, "POST", fmt.Sprintf("/containers/create?name=c%d-%d", lane, i), c)
		if err != nil {
			return err
		}
		id := field(text, "Id")
		if _, err := want(e, 204, "POST", "/containers/"+id+"/start", nil); err != nil {
			return err
		}
		if _, err := want(e, 204, "POST", "/containers/"+id+"/kill", nil); err != nil {
			return err
		}
		if text, err = want(e, 200, "POST", "/containers/"+id+"/wait", nil); err != nil {
			return err
		} else if text != "{\"StatusCode\":137}\n" {
			return fmt.Errorf("wait of a killed one: %s", text)
		}
		_, err = want(e, 204, "DELETE", "/containers/"+id+"?v=1", nil)
		return err
	}
	all := func(from, to int) {
		lanes(t, 8, func(lane int) error {
			for i := from + lane; i < to; i += 8 {
				if err := cycle(lane, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all(0, 16) // what is made once is made
	before := usageOfDaemon(t, e, 0)
	all(16, 16+n)
	after := usageOfDaemon(t, e, before.goroutines)
	flat(t, "gantryd", n, before, after)
	e.Clean(t)
}
