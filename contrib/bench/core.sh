#!/usr/bin/env bash
# Measures the core alone, `gantryd core`, on directories of its own; with Debian's
# containerd installed, side by side with it. Writes results/NAME.json and .md.
#
#   core.sh [-quick] [-name NAME] [FLAG OF corebench...]
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
. ./lib.sh

quick=() name=core
while [ $# -gt 0 ]; do
	case $1 in
	-quick) quick=(-n 4 -records 500 -tasks 10 -layer-mb 4 -settle 1s) name=core-quick ;;
	-name) name=$2; shift ;;
	*) break ;;
	esac
	shift
done

[ "$(id -u)" = 0 ] || die "the bench runs real containers and needs root"
export PATH=$PATH:/usr/sbin:/sbin
for tool in busybox tar ctr; do command -v $tool >/dev/null || die "needs $tool"; done
bin=${BENCH_BIN:-$root/bin}
go build -o bin/ ./cmd/...
(cd core && go build -o ../bin/corebench .)
dir=$(mktemp -d "${TMPDIR:-/tmp}/gantry-bench-XXXX")
trap finish EXIT
trap 'exit 130' INT TERM
make_rootfs

cores=()
# core NAME PROGRAM...: starts a core that reads a configuration file after --config.
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
	command=("$@" --config "$dir/$name/config.toml")
	sh -c "$(printf 'echo $$ >%q; exec' "$(accounting)/$tag/daemon/cgroup.procs"; printf ' %q' "${command[@]}")" >"$dir/$name/log" 2>&1 &
	daemons+=($!)
	for _ in $(seq 300); do
		if [ -S "$dir/$name/s" ]; then break; fi
		kill -0 $! 2>/dev/null || { tail "$dir/$name/log"; die "$name ended"; }
		sleep 0.1
	done
	cores+=(-core "$name=$dir/$name/s,$!,/$tag")
}

! command -v containerd >/dev/null || core containerd containerd
core gantry "$bin/gantryd" core

status=0
bin/corebench "${cores[@]}" -ctr "$(command -v ctr)" -json "$dir/core.json" "${quick[@]}" "$@" || status=$?
end_engines
mkdir -p results
bin/benchreport -core "$dir/core.json" -command "contrib/bench/core.sh" \
	-name "$name" -commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
	-json "results/$name.json" -markdown "results/$name.md"
echo "wrote results/$name.json and results/$name.md"
exit $status
