#!/usr/bin/env bash
# unit.sh: the guard tests and the unit tests, with the race detector. Without debug symbols a test links in half the time.
set -euo pipefail
cd "$(dirname "$0")/.."
go test ./test/guard
CGO_ENABLED=1 go test -race -ldflags '-s -w' -timeout 15m ./internal/... ./cmd/... ./demo/... ./test/bench ./test/registry ./test/pace ./test/vm/...
