#!/usr/bin/env bash
# lint.sh: gofmt, go vet and staticcheck over the whole tree; the guard tests in test/guard do the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
  printf 'not as gofmt writes it; mend with: gofmt -w FILE\n%s\n' "$unformatted" >&2
  exit 1
fi
go vet ./...
go tool staticcheck ./...
