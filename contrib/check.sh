#!/usr/bin/env bash
# gofmt, vet, staticcheck, import direction; the bench's own module.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "not gofmt-ed:"; echo "$unformatted"; exit 1; }
go vet ./...
go test -count=1 .
(cd contrib/bench && go vet ./... && go test ./...) # a module of its own
go tool -modfile=contrib/tools/staticcheck/go.mod staticcheck ./...
