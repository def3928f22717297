#!/usr/bin/env bash
# Measures the core alone, `gantryd core`, on directories of its own; with Debian's
# containerd installed, side by side with it. Writes results/NAME.json and .md.
#
#   core.sh [-quick] [-name NAME] [FLAG OF corebench...]
#
# -quick takes less than two minutes and is for a first look. run.sh measures the core,
# too, in a whole run.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
. ./lib.sh

quick=() name=core
while [ $# -gt 0 ]; do
	case $1 in
	-quick) quick=(-quick) name=core-quick ;;
	-name) name=$2; shift ;;
	*) break ;;
	esac
	shift
done

[ "$(id -u)" = 0 ] || die "the bench runs real containers and needs root"
export PATH=$PATH:/usr/sbin:/sbin
for tool in busybox tar; do command -v $tool >/dev/null || die "needs $tool"; done
bin=${BENCH_BIN:-$root/bin}
go build -o bin/ ./cmd/...
make_room
make_rootfs
count_events

status=0
measure_core "$@"
[ -s "$dir/core.json" ] || die "nothing was measured"
mkdir -p results
bin/benchreport -core "$dir/core.json" -command "contrib/bench/core.sh" \
	-name "$name" -commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
	-json "results/$name.json" -markdown "results/$name.md"
echo "wrote results/$name.json and results/$name.md"
exit $status
