# Parts of run.sh and core.sh: what it makes on the host, and how all of it goes again. Everything
# is named after $dir, and each engine's processes stay in cgroups of that name.

die() { echo "$*" >&2; exit 1; }

hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

# unified prints the directory of the cgroup v2 hierarchy.
unified() { awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts; }

# accounting prints the directory of the hierarchy that accounts CPU time.
accounting() {
	local v1
	v1=$(awk '$3 == "cgroup" && "," $4 "," ~ /,cpuacct,/ { print $2; exit }' /proc/self/mounts)
	echo "${v1:-$(unified)}"
}

# make_room makes $dir, from which on everything is taken back, however the script ends.
make_room() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/gantry-bench-XXXX")
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

# at_work runs a program so that a signal to the script does not wait for its end.
worker=
at_work() {
	local status=0
	"$@" &
	worker=$!
	wait "$worker" || status=$?
	worker=
	return $status
}

# count_events mounts tracefs, by which the kernel counts executions, forks and syncs.
count_events() {
	mkdir "$dir/tracing"
	mount -t tracefs tracefs "$dir/tracing" 2>/dev/null || echo "no tracefs: nothing is counted"
}

# make_rootfs makes the test image's root of busybox, as a directory and as a tar.
make_rootfs() {
	local busybox applet
	if [ -n "${BENCH_ROOTFS:-}" ]; then
		mkdir "$dir/rootfs"
		tar -C "$dir/rootfs" -xf "$BENCH_ROOTFS"
		return
	fi
	busybox=$(command -v busybox)
	mkdir -p "$dir/rootfs/bin" "$dir/rootfs/tmp" "$dir/rootfs/etc" "$dir/rootfs/proc"
	cp "$busybox" "$dir/rootfs/bin/busybox"
	for applet in $("$busybox" --list); do
		ln -f "$dir/rootfs/bin/busybox" "$dir/rootfs/bin/$applet" 2>/dev/null || true
	done
	tar -C "$dir/rootfs" -cf "$dir/rootfs.tar" .
	export BENCH_ROOTFS=$dir/rootfs.tar
}

netns=() groups=() daemons=()

# room makes the directory and the network namespace of one daemon. Its exec root is in
# memory, as /run is.
room() {
	local tag
	tag=$(basename "$dir")-$1
	ip netns add "$tag"
	netns+=("$tag")
	ip -n "$tag" link set lo up
	mkdir -p "$dir/$1/exec"
	mount -t tmpfs -o mode=711 tmpfs "$dir/$1/exec"
	echo '{}' >"$dir/$1/daemon.json"
}

# group makes a cgroup for a daemon below that of its engine: group ENGINE NAME
group() {
	mkdir -p "$(accounting)/$1/$2" "$(unified)/$1/$2"
}

# inside prints the shell words that run "${command[@]}" as a daemon in its room and
# cgroup: inside ROOM GROUP
inside() {
	printf 'echo $$ >%q; echo $$ >%q; exec nsenter --net=/run/netns/%q' \
		"$(accounting)/$2/cgroup.procs" "$(unified)/$2/cgroup.procs" "$(basename "$dir")-$1"
	printf ' %q' "${command[@]}"
}

# engine starts the daemon that launch describes, and adds it to the endpoints. The
# cold start test gets a daemon of its own, beside the one that runs all the while.
engine() {
	local name=$1 tag cold
	tag=$(basename "$dir")-$name
	groups+=("$tag")
	group "$tag" daemon
	group "$tag" cold
	room "$name"
	room "$name-cold"
	launch "$dir/$name-cold" "/$tag"
	cold=$(inside "$name-cold" "$tag/cold")
	launch "$dir/$name" "/$tag"
	sh -c "$(inside "$name" "$tag/daemon")" >"$dir/$name/log" 2>&1 &
	daemons+=($!)
	for _ in $(seq 300); do
		if [ -S "$dir/$name/docker.sock" ]; then break; fi
		kill -0 $! 2>/dev/null || { tail "$dir/$name/log"; die "$name ended"; }
		sleep 0.1
	done
	endpoints+=("-$letter" "$name=$dir/$name/docker.sock" "-$letter-netns" "/run/netns/$tag"
		"-$letter-cpu" "$(usage_file "$(accounting)/$tag")"
		"-$letter-start" "$cold" "-$letter-start-sock" "$dir/$name-cold/docker.sock")
	if [ -d "$dir/tracing/events" ]; then endpoints+=("-$letter-events" "$(unified)/$tag"); fi
	letter=b
}

usage_file() {
	if [ -e "$1/cpuacct.usage" ]; then echo "$1/cpuacct.usage"; else echo "$1/cpu.stat"; fi
}

# end_engines ends the daemons in order, and then by force whatever is left in their cgroups.
end_engines() {
	local pid
	for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${daemons[@]}"; do
		for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
	done
	kill_rest
	for pid in "${daemons[@]}"; do wait "$pid" 2>/dev/null || true; done
	daemons=()
}

kill_rest() {
	local group hierarchy pids
	for _ in $(seq 50); do
		pids=
		for group in "${groups[@]}"; do
			for hierarchy in $(hierarchies); do
				[ -d "$hierarchy/$group" ] || continue
				pids+=" $(find "$hierarchy/$group" -name cgroup.procs -exec cat {} + 2>/dev/null | tr '\n' ' ')"
			done
		done
		[ -n "${pids// /}" ] || return 0
		kill -9 $pids 2>/dev/null || true
		sleep 0.1
	done
}

# core starts a core that reads a configuration file after --config: core NAME PROGRAM...
# Its state is in memory, as /run is.
cores=()
core() {
	local name=$1 tag
	shift
	tag=$(basename "$dir")-$name
	groups+=("$tag")
	group "$tag" daemon
	mkdir -p "$dir/$name/state"
	mount -t tmpfs -o mode=711 tmpfs "$dir/$name/state"
	cat >"$dir/$name/config.toml" <<-END
		version = 2
		root = "$dir/$name/root"
		state = "$dir/$name/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$dir/$name/s"
	END
	sh -c "$(printf 'echo $$ >%q; echo $$ >%q; exec' "$(accounting)/$tag/daemon/cgroup.procs" "$(unified)/$tag/daemon/cgroup.procs"
		printf ' %q' "$@" --config "$dir/$name/config.toml")" >"$dir/$name/log" 2>&1 &
	daemons+=($!)
	for _ in $(seq 300); do
		if [ -S "$dir/$name/s" ]; then break; fi
		kill -0 $! 2>/dev/null || { tail "$dir/$name/log"; die "$name ended"; }
		sleep 0.1
	done
	[ -S "$dir/$name/s" ] || die "$name does not serve"
	cores+=(-core "$name=$dir/$name/s,$!,/$tag")
}

# measure_core compares Debian's containerd with the core alone, both with what they find
# under runc's name, into $dir/core.json.
measure_core() {
	local args=()
	command -v ctr >/dev/null || { echo "no ctr: the core is not measured"; return 0; }
	(cd core && go build -o ../bin/corebench .)
	[ ${#quick[@]} -eq 0 ] || args=(-n 4 -records 500 -tasks 10 -layer-mb 4 -settle 1s)
	! command -v containerd-shim-runc-v2 >/dev/null || args+=(-runc-shim "$(command -v containerd-shim-runc-v2)")
	[ ! -d "$dir/tracing/events" ] || args+=(-tracefs "$dir/tracing" -unified "$(unified)")
	! command -v containerd >/dev/null || core containerd containerd
	core gantry "$bin/gantryd" core
	at_work bin/corebench "${cores[@]}" -accounting "$(accounting)" -ctr "$(command -v ctr)" -json "$dir/core.json" "${args[@]}" "$@" || status=$?
	end_engines
}

# forget removes what tasks that were killed have outside their core's directories: the
# sockets of their shims, and what runc keeps of them.
forget() {
	local file socket
	for file in "$dir"/*/state/io.containerd.runtime.v2.task/*/*/address; do
		[ -e "$file" ] || continue
		socket=$(cat "$file")
		case $socket in unix:///run/containerd/s/*) rm -f "${socket#unix://}" ;; esac
	done
	rm -rf /run/containerd/runc/"$(basename "$dir")"-*
}

# measure_runtimes compares the command lines, with Docker's default seccomp profile, where no cgroup v2 side has controllers
# beside v1: crun refuses such a host.
measure_runtimes() {
	local args=() n=30 hide=true
	[ ${#quick[@]} -eq 0 ] || n=4
	! command -v runc >/dev/null || args+=("runc=$(command -v runc)")
	! command -v crun >/dev/null || args+=("crun=$(command -v crun)")
	args+=("grun=$bin/grun")
	[ -x /usr/bin/time ] || { echo "no GNU time: the runtimes are not measured"; return 0; }
	[ "$(accounting)" = "$(unified)" ] || hide="umount $(unified)"
	(cd "$root" && go run ./contrib/seccomp) >"$dir/seccomp.json"
	unshare -m sh -c 'mount --make-rprivate / && '"$hide"' && exec "$@"' sh \
		bin/runtimebench -n $n -rootfs "$dir/rootfs" -seccomp "$dir/seccomp.json" -json "$dir/runtime.json" "${args[@]}" || status=$?
}

measure_floor() {
	local n=50
	[ ${#quick[@]} -eq 0 ] || n=10
	command -v cc >/dev/null || { echo "no C compiler: the kernel alone is not measured"; return 0; }
	cc -O2 -Wall -o bin/floor floor/floor.c
	bin/floor "$dir/rootfs" "$dir/floor" $n | tee "$dir/floor.txt"
}

# finish takes everything back, whatever was reached; it must not fail half-way.
finish() {
	local n group hierarchy
	set +e
	[ -z "$worker" ] || { kill "$worker"; wait "$worker"; } 2>/dev/null
	end_engines
	forget
	# Deepest first: each mount point below the directory, as the kernel spells it.
	for _ in 1 2 3; do
		awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r n; do
			umount -l "$(printf '%b' "$n")" 2>/dev/null
		done
	done
	for n in "${netns[@]}"; do ip netns del "$n"; done
	for group in "${groups[@]}"; do
		for hierarchy in $(hierarchies); do
			[ -d "$hierarchy/$group" ] && find "$hierarchy/$group" -depth -type d -exec rmdir {} \;
		done
	done
	rm -rf --one-file-system "$dir" # a mount that stayed is not emptied
}
