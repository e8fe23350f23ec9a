# Podium's own commands; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# sudo often hides the place where Go was installed.
GO ?= $(shell command -v go || echo /usr/local/go/bin/go)
export PATH := $(dir $(GO)):$(PATH)

# One way to build everything, so that build, lint and end-to-end tests share what is compiled: static, and with no
# path of the building machine inside. The shim and the race detector need C and say so themselves.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

KUBERNETES := v1.37.2
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w \
  -X podium.dev/podium/internal/cli.Version=$(VERSION) \
  -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37

.PHONY: help
help: ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what the build and the tests need (Debian, Ubuntu; as root)
	hack/setup.sh

.PHONY: shim
shim: ## build the static shim that the binary carries
	hack/build-shim.sh

.PHONY: build
build: shim ## build bin/podium
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/podium ./cmd/podium

.PHONY: demo
demo: setup build ## the main job: a node with the demo's images, ready for kubectl
	hack/demo.sh

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	hack/lint.sh

.PHONY: unit
unit: shim ## the unit tests, with the race detector
	hack/unit.sh

.PHONY: e2e
e2e: build ## the end-to-end tests: the real binary, real containers (as root)
	$(GO) test -count=1 -timeout 25m ./test/e2e/...

.PHONY: test-vm
test-vm: setup build ## tests in a small machine of its own with cgroup v2 only: limits, reboots, power cuts
	hack/setup.sh vm
	$(GO) run ./test/vm

.PHONY: test
test: setup lint unit e2e test-vm ## everything that must pass

.PHONY: bench
bench: setup build ## measure; figures beside `runc run` and, with PEER=kubeconfig, beside another cluster
	hack/bench.sh

.PHONY: bench-scheduler
bench-scheduler: ## measure the scheduler on hollow nodes; replaces the figures and the plot in docs
	$(GO) run ./test/schedbench -docs docs

.PHONY: generate
generate: ## make the generated files again
	$(GO) generate ./...
