package shimwire

// Binary is the file name of our shim. An engine that has it beside its own
// executable may run its serving process itself; see shim/boot.
const Binary = "containerd-shim-gantry-v2"

// Group is the group named by a container's annotations, such as its pod, or "".
// The containers of a group share a shim.
func Group(annotations map[string]string) string {
	for _, label := range []string{"io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"} {
		if group := annotations[label]; group != "" {
			return group
		}
	}
	return ""
}
