# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

export CGO_ENABLED := 0

.PHONY: help
help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: deps
deps:
	@test/deps

.PHONY: build
build: deps ## make bin/braid and bin/braid-mcp
	go build -trimpath -ldflags "$(LDFLAGS)" -o bin/ ./agent/cmd/braid ./mcp/cmd/braid-mcp

.PHONY: demo
demo: build ## play the story: two lines, one download, lines that die and return
	@go run ./test/demo -bin bin

.PHONY: test
test: build lint ## run every test on the real kernel (root)
	go test -p 1 ./...
	CGO_ENABLED=1 go test -race ./transport/... ./agent/... ./mcp/...

.PHONY: lint
lint: deps ## check formatting, vet, staticcheck, shellcheck
	@test -z "$$(gofmt -l .)" || { echo 'gofmt would change:'; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	shellcheck test/deps .ci/run

.PHONY: bench
bench: build ## measure against a single link and bare kernel MPTCP (under 4 minutes)
	@go run ./test/bench -bin bin

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
