#!/usr/bin/env bash
# Every test of the repository, with the race detector. Root tests run when root;
# each skip prints its reason and is counted at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/bin:$PWD/.build:$PATH:/usr/sbin:/sbin
# The engine under the integration tests is built with the race detector too; what it
# finds fails the test whose engine it was. At full length the proofs are about memory
# and take long: the binaries are without it. Either way they have their fail points.
if [ "${GANTRY_SOAK:-}" = 1 ]; then
	export GANTRY_BIN=$PWD/.build/failpoint
	timeout=120m
	mkdir -p "$GANTRY_BIN"
	CGO_ENABLED=0 go build -trimpath -tags failpoint -o "$GANTRY_BIN/gantryd" ./cmd/gantryd
	CGO_ENABLED=0 go build -trimpath -tags failpoint,no_grpc -o "$GANTRY_BIN/containerd-shim-gantry-v2" ./cmd/containerd-shim-gantry-v2
else
	export GANTRY_BIN=$PWD/.build/race
	timeout=20m # of a package; a busy machine may take thrice as long as one at rest
	mkdir -p "$GANTRY_BIN"
	CGO_ENABLED=1 go build -race -tags failpoint -o "$GANTRY_BIN/gantryd" ./cmd/gantryd
	CGO_ENABLED=1 go build -race -tags failpoint,no_grpc -o "$GANTRY_BIN/containerd-shim-gantry-v2" ./cmd/containerd-shim-gantry-v2
fi
cp bin/grun bin/gantry-init "$GANTRY_BIN"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
CGO_ENABLED=1 go test -race -p 2 -timeout $timeout -v ./... >"$log" 2>&1 || status=$?
CGO_ENABLED=1 go test -race -tags failpoint -v ./api/failpoint >>"$log" 2>&1 || status=$?
# The bench is a module of its own.
(cd contrib/bench && go vet ./... && go test -v ./...) >>"$log" 2>&1 || status=$?
grep -E '^(ok|FAIL|panic:|---? FAIL|\?)' "$log" | grep -v 'no test files' || true
if [ $status -ne 0 ]; then
	echo "----- output of what failed"
	# What a test printed before its own verdict, the last lines of it, also where others ran
	# beside it; of a panic, the last lines of all.
	awk -v most=250 'function show(k,  i) { for (i = (n[k] > most ? n[k] - most : 0); i < n[k]; i++) print line[k, i] }
		/^(===|---) / { now = $3; sub(/\/.*/, "", now) }
		{ line[now, n[now]++] = $0; line["", n[""]++] = $0 }
		/^--- FAIL/ { show(now) }
		/^--- / { n[now] = 0 }
		/^# |^panic: |^WARNING: DATA RACE|^fatal error: / { loud = 1 }
		/^FAIL\t/ { if (loud) show("") }
		/^(FAIL|ok  )\t/ { loud = 0; now = ""; split("", n); split("", line) }' "$log"
fi
echo "----- skipped"
awk '/^=== (RUN|CONT|NAME)/ { name = $3 }
	/^ +[a-z0-9_]+\.go:[0-9]+: / { why[name] = $0; sub(/^ +[^ ]+ /, "", why[name]) }
	/^ *--- SKIP/ { print $3 ": " why[$3] }' "$log"
if [ $status -ne 0 ]; then
	echo "----- what failed said"
	awk '/^(===|---) / { now = $3; sub(/\/.*/, "", now) }
		/^=== RUN +[^\/]+$/ { n[now] = 0 }
		/^ +[a-z0-9_]+\.go:[0-9]+: / { line[now, n[now]++] = substr($0, 1, 300) }
		/^--- FAIL/ { print now; for (i = 0; i < n[now]; i++) print line[now, i] }' "$log"
fi
passed=$(grep -cE '^ *--- PASS' "$log" || true)
failed=$(grep -cE '^ *--- FAIL' "$log" || true)
skipped=$(grep -cE '^ *--- SKIP' "$log" || true)
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
