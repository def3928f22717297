// Command hello is the demo image's only program: it says where it finds itself.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	host, _ := os.Hostname()
	fmt.Printf("Hello from pid %d on host %q.\n", os.Getpid(), host)
	if root, err := os.ReadDir("/"); err == nil {
		var names []string
		for _, e := range root {
			names = append(names, e.Name())
		}
		fmt.Println("This is all there is under /:", strings.Join(names, " "))
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for _, line := range strings.Split(string(status), "\n") {
			if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "Seccomp:") || strings.HasPrefix(line, "NoNewPrivs") {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
}
