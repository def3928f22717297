#!/usr/bin/env bash
# Measures the engine in bin/ on directories of its own; with Debian's dockerd
# installed, side by side with it. Writes results/NAME.json and, for a whole run,
# RESULTS.md.
#
#   run.sh [-quick] [-name NAME] [FLAG OF enginebench...]
#
# -quick takes less than three minutes and is for a first look. A run with other
# flags (-run PATTERN, -n 5, …) is a partial one. Both leave RESULTS.md alone.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
. ./lib.sh

quick=() name=full whole=1
while [ $# -gt 0 ]; do
	case $1 in
	-quick)
		quick=(-n 3 -batch 8 -stopped 30 -running 10 -mem-count 8 -flat-stopped 40 -flat-running 12 -watched 12 -files 1000 -cold-stopped 10
			-count-batch 4 -settle 2s -window 300ms -log-mb 20 -copy-mb 50 -image-mb 50 -www-mb 50)
		name=quick whole= ;;
	-name) name=$2; shift ;;
	*) break ;;
	esac
	shift
done
if [ $# -gt 0 ]; then
	whole=
	[ "$name" != full ] || name=partial
fi

[ "$(id -u)" = 0 ] || die "the bench runs real containers and needs root"
export PATH=$PATH:/usr/sbin:/sbin
for tool in ip nsenter busybox tar; do command -v $tool >/dev/null || die "needs $tool"; done
[ ! -S /run/containerd/containerd.sock ] || die "a containerd serves /run/containerd: dockerd would use it, and it would not be counted"
bin=${BENCH_BIN:-$root/bin} # where the engine's binaries are
go build -o bin/ ./cmd/...
make_room
export TMPDIR=$dir
make_rootfs
count_events

endpoints=() runtimes=()
letter=a
if command -v dockerd >/dev/null; then
	launch() { # DIRECTORY CGROUP_PARENT
		command=(dockerd --data-root "$1/data" --exec-root "$1/exec" -H "unix://$1/docker.sock" \
			--pidfile "$1/pid" --config-file "$1/daemon.json" --cgroup-parent "$2")
	}
	engine docker
fi
launch() {
	command=("$bin/gantryd" --data-root "$1/data" --exec-root "$1/exec" -H "unix://$1/docker.sock" \
		--pidfile "$1/pid" --config-file "$1/daemon.json" --cgroup-parent "$2")
}
engine gantry

status=0
# The engines come first, while they are fresh; the core, the runtimes and the kernel run alone.
at_work bin/enginebench "${endpoints[@]}" -tracefs "$dir/tracing" -samples -json "$dir/engine.json" "${quick[@]}" "$@" || status=$?
end_engines
if [ $# -eq 0 ]; then
	[ -z "$whole" ] || measure_core
	measure_runtimes
	measure_floor
fi

mkdir -p results
markdown=results/$name.md
[ -z "$whole" ] || markdown=RESULTS.md
bin/benchreport -engine "$dir/engine.json" -core "$dir/core.json" -runtime "$dir/runtime.json" -floor "$dir/floor.txt" \
	-name "$name" -commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
	-json "results/$name.json" -markdown "$markdown"
echo "wrote results/$name.json and $markdown"
exit $status
