# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Static binaries; what runs under the race detector says otherwise.
export CGO_ENABLED := 0

PROGRAMS := ./agent/cmd/braid ./mcp/cmd/braid-mcp
SHELL_FILES = $(shell find . -path ./.git -prune -o -type f -exec awk 'FNR == 1 { if (/^#!\/(usr\/)?bin\/(env )?(ba)?sh/) print FILENAME; nextfile }' {} +)

.PHONY: help
help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: build
build: ## make bin/braid and bin/braid-mcp
	@test/deps
	go build -trimpath -ldflags "$(LDFLAGS)" -o bin/ $(PROGRAMS)

# Demo and bench are run as themselves, not by `go run`, which would leave them
# alone when it is terminated.
.PHONY: demo
demo: build ## play the story: two lines, one download, lines that die and return (root)
	@test/deps ip nft
	@go build -o bin/ ./test/demo
	@bin/demo -bin bin

# What the tests of test/ depend on, Go cannot see: the kernel, and all of ours
# that they build and run. So their results are not remembered. The long
# simulations of health are too much for the race detector.
.PHONY: test
test: build lint ## run every test on the real kernel (root)
	@test/deps ip nft conntrack git gcc ModemManager dbus-daemon dnsmasq ipset iptables tayga adduser systemd-analyze ss strace sysctl make node chromium
	@go build -o bin/suite ./test/suite
	@bin/suite '-race ./agent/... ./mcp/... ./onpath/... ./transport/...' \
		./agent/health \
		'-count=1 -p 1 -timeout 40m -skip ^Test(House|Extend|OnPath) ./test/... ./cross/... & -count=1 -timeout 40m -run ^Test(House|Extend|OnPath) ./test/e2e'

.PHONY: lint
lint: ## check formatting, vet, staticcheck, shellcheck
	@test/deps shellcheck
	@test -z "$$(gofmt -l .)" || { echo 'gofmt would change:'; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	shellcheck $(SHELL_FILES)

.PHONY: bench
bench: build ## measure beside a single line and bare kernel MPTCP, 4 minutes; BENCH=-peer beside sing-box (root)
	@test/deps ip nft
	@go build -o bin/ ./test/bench
	@bin/bench -bin bin $(BENCH)

.PHONY: package
package: ## make packages and a feed of them, in dist/
	@test/deps
	@go build -o bin/package ./cross/package
	@bin/package

.PHONY: test-cross
test-cross: package ## prove the packages on emulated MIPS and ARM machines, 4 minutes (root)
	@test/deps qemu-system-mips qemu-system-arm qemu-mips-static xz
	@go build -o bin/boot ./cross/boot
	@bin/boot

.PHONY: kernel
kernel: ## build the big-endian MIPS kernel that test-cross boots, unless there is one, 6 minutes (root)
	@test/deps xz
	@go build -o bin/boot ./cross/boot
	@bin/boot -kernels

.PHONY: test-openwrt
test-openwrt: ## run among OpenWrt's own UBUSD UBUS UCI NETIFD, which these name (root)
	go test -tags openwrt -count=1 ./agent/ubus ./agent/uci ./test/openwrt

.PHONY: test-luci
test-luci: ## look at the page on the router at LUCI_URL, with LUCI_PASSWORD
	@test/deps chromium
	go test -tags luci -count=1 -run TestRealLuCI ./test/luci

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build dist
