// Command intruder is what a hostile container runs: each subcommand is one attack on
// the runtime that starts processes beside it. It prints a line per thing it got hold of
// and goes on until it is killed, unless said otherwise.
//
//	exes             keep open the executable of every process that is not its own
//	files NAME…      look for files of these names below the root, the working directory
//	                 and the open files of every process that appears
//	write PATH       say in JSON by what ways the file at PATH can be changed, and end
//	descriptors      say what is open, and end
//	type TEXT        put TEXT into the input of the terminal at descriptor 0, and end
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/exeattack"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("which attack?"))
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "exes":
		holdExecutables()
	case "files":
		lookForFiles(args)
	case "write":
		fd, err := unix.Open(args[0], unix.O_PATH|unix.O_CLOEXEC, 0)
		fail(err)
		ways, err := writable(fd)
		fail(err)
		fail(json.NewEncoder(os.Stdout).Encode(ways))
	case "descriptors":
		listDescriptors()
	case "type":
		fail(typeInto(0, args[0]))
	default:
		fail(fmt.Errorf("no attack %q", os.Args[1]))
	}
}

// writable waits until nobody executes the file any more: the kernel refuses for that
// reason before any other.
func writable(fd int) (ways []string, err error) {
	for range 100 {
		ways, err = exeattack.Writable(fd)
		if err != nil || !slices.ContainsFunc(ways, func(way string) bool { return strings.Contains(way, "executed") }) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ways, err
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// typeInto writes to a terminal's input, as if its user had typed.
func typeInto(fd uintptr, text string) error {
	for _, c := range []byte(text) {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCSTI, uintptr(addr(&c))); e != 0 {
			return fmt.Errorf("TIOCSTI: %w", e)
		}
	}
	fmt.Println("typed")
	return nil
}
