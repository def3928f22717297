# Gantry. `make demo` shows one container start through every layer, `make test`
# passes every test; both need root, Go, gcc and git, and fetch the rest themselves.

SHELL    := /bin/bash
BIN      := bin
CACHE    := .build
GO       ?= go
VERSION  := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
COMMIT   := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X gantry/api/version.Version=$(VERSION) -X gantry/api/version.Commit=$(COMMIT)
BUILD     = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
# Where grun begins: see cmd/grun/first.
ENTRY    := $(if $(filter amd64,$(shell $(GO) env GOARCH)),-E gantry/cmd/grun/first.entry)
PREFIX   ?= /usr/local
DESTDIR  ?=

BINARIES := gantryd containerd-shim-gantry-v2 grun gantry-init

.PHONY: build demo test test-containerd test-vm soak check bench install clean tools clients FORCE

build: $(addprefix $(BIN)/,$(BINARIES))

# The Go tool knows best what is stale.
$(BIN)/%: FORCE
	@$(BUILD) -o $@ ./cmd/$*
$(BIN)/grun: LDFLAGS += $(ENTRY)
$(BIN)/containerd-shim-gantry-v2: FORCE
	@$(BUILD) -tags no_grpc -o $@ ./cmd/containerd-shim-gantry-v2

## demo: run one container on a private engine and print every hop of its start
## (ARGS=--all shows every system call)
demo: build $(CACHE)/docker
	@$(BUILD) -o $(CACHE)/demo ./contrib/demo
	@$(BUILD) -o $(CACHE)/hello ./contrib/demo/hello
	@$(CACHE)/demo --bin $(BIN) --docker $(CACHE)/docker --hello $(CACHE)/hello $(ARGS)

## test: everything, root tests with real containers included
test: build tools
	@contrib/test.sh

## test-vm: on Linux 6.1 with cgroup v2 alone, emulated; ARGS: steps of contrib/vm/list
test-vm: build $(CACHE)/docker
	@contrib/vm/run.sh $(ARGS)

## soak: the long proofs at full length
soak: build tools
	@GANTRY_SOAK=1 contrib/test.sh

## test-containerd: the tests with the docker CLI, with the engine on a containerd;
## CORE: its path, or gantryd for our core as a process of its own; RUN: of which tests
test-containerd: build tools
	@GANTRY_CORE=$(or $(CORE),containerd) GANTRY_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 60m -run '$(or $(RUN),.)' ./integration-cli

## check: what must pass before a commit
check:
	@contrib/check.sh

## bench: measure, beside Debian's dockerd, into contrib/bench/RESULTS.md;
## ARGS: -quick, or "-name NAME -run run_none -n 30" for a part
bench: build tools
	@contrib/bench/run.sh $(ARGS)

# What only tests and the demo need: pinned clients, built as Go modules, and
# Debian's packages where the machine lacks them.
tools: $(CACHE)/docker clients
	@contrib/tools/install.sh

# Clients of the core, and containerd 2.x to run beside it.
clients: $(addprefix $(CACHE)/clients/.,containerd nerdctl buildkit coreclient)

$(CACHE)/clients/.coreclient: $(wildcard contrib/tools/coreclient/*.go)
# What no test asks containerd for is two of every seven packages that it is made of.
$(CACHE)/clients/.containerd: TAGS := no_cri,no_btrfs,no_devmapper,no_zfs,no_tracing
$(CACHE)/clients/.%: contrib/tools/%/go.mod contrib/tools/%/go.sum
	@mkdir -p $(@D)
	cd contrib/tools/$* && CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '-s -w' -o $(CURDIR)/$(@D)/ $(if $(filter coreclient,$*),.,tool)
	@touch $@

$(CACHE)/docker: contrib/tools/docker/go.mod contrib/tools/docker/go.sum
	@mkdir -p $(CACHE)
	cd contrib/tools/docker && CGO_ENABLED=0 $(GO) build -trimpath \
		-ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$$($(GO) list -m -f '{{.Version}}' github.com/docker/cli | tr -d v | cut -d+ -f1)" \
		-o $(CURDIR)/$@ github.com/docker/cli/cmd/docker

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/usr/lib/systemd/system
	install -m 755 $(addprefix $(BIN)/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin
	install -m 644 contrib/systemd/gantry.service contrib/systemd/gantry.socket contrib/systemd/gantry-core.service $(DESTDIR)/usr/lib/systemd/system

clean:
	rm -rf $(BIN) $(CACHE)
