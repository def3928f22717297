#!/usr/bin/env bash
# Measures the engine in bin/ on directories of its own; with Debian's dockerd
# installed, side by side with it. Arguments go to enginebench (-n 30, -run PATTERN, …).
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
[ "$(id -u)" = 0 ] || { echo "the bench runs real containers and needs root"; exit 1; }
go build -o bin/ ./cmd/...
dir=$(mktemp -d /tmp/gantry-bench-XXXX)
pids=()
finish() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
	ip link del gtbench 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
export PATH=$PATH:/usr/sbin
if [ -z "${BENCH_ROOTFS:-}" ]; then
	busybox=$(command -v busybox) || { echo "needs busybox (Debian: busybox-static), or BENCH_ROOTFS"; exit 1; }
	mkdir -p "$dir/rootfs/bin" "$dir/rootfs/tmp" "$dir/rootfs/etc"
	cp "$busybox" "$dir/rootfs/bin/busybox"
	for applet in $("$busybox" --list); do ln -f "$dir/rootfs/bin/busybox" "$dir/rootfs/bin/$applet" 2>/dev/null || true; done
	tar -C "$dir/rootfs" -cf "$dir/rootfs.tar" .
	export BENCH_ROOTFS=$dir/rootfs.tar
fi
mkdir "$dir/ours" "$dir/peer"
echo '{}' >"$dir/ours/daemon.json"
"$root/bin/gantryd" --data-root "$dir/ours/data" --exec-root "$dir/ours/exec" -H "unix://$dir/ours/docker.sock" \
	--pidfile "$dir/ours/pid" --config-file "$dir/ours/daemon.json" --bridge gtbench >"$dir/ours/log" 2>&1 &
pids+=($!)
endpoints=(-a "ours=$dir/ours/docker.sock")
if command -v dockerd >/dev/null; then
	# Without a network of its own: two daemons on one host would fight over the firewall.
	dockerd --data-root "$dir/peer/data" --exec-root "$dir/peer/exec" -H "unix://$dir/peer/docker.sock" \
		--pidfile "$dir/peer/pid" --bridge none --iptables=false --ip-masq=false >"$dir/peer/log" 2>&1 &
	pids+=($!)
	endpoints=(-a "docker=$dir/peer/docker.sock" -b "ours=$dir/ours/docker.sock")
	for _ in $(seq 100); do [ -S "$dir/peer/docker.sock" ] && break; sleep 0.1; done
fi
for _ in $(seq 100); do [ -S "$dir/ours/docker.sock" ] && break; sleep 0.1; done
bin/enginebench "${endpoints[@]}" "$@"
