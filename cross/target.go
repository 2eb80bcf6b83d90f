// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package cross knows the processors that braid runs on and the packages it
// comes in, and makes them.
package cross

import (
	"os"
	"slices"
)

// Target is a processor that braid is built for.
type Target struct {
	Name                  string
	GOARCH, GOMIPS, GOARM string
	OpenWrt               string // architecture of OpenWrt's packages
	Debian                string // architecture of Debian's; empty: none that is still kept
	Budget                Budget
	Small                 bool      // inlined in Go's runtime alone, see docs/performance.md: a tenth smaller, where flash is scarcest
	Emulator              *Emulator // nil: this is where tests run without one
}

// Budget is what a program and its package may take of a router's flash, in
// bytes; 0 is no limit.
type Budget struct {
	Program, Package int64
}

// Emulator is the machine that stands for a target in tests.
type Emulator struct {
	System  string // qemu-system-SYSTEM
	Machine string
	CPU     string
	Console string
	Kernel  string   // package of Debian's that depends on the kernel; empty: one built here
	User    string   // qemu-USER-static, for tests that need no kernel; empty: none are run
	Options []string // further ones of qemu-system-SYSTEM
}

// Targets is all of them. What a processor lacks decides: neither 24Kc nor
// every Cortex-A7 has a floating point unit.
var Targets = []Target{
	{
		Name:   "mipsel",
		GOARCH: "mipsle", GOMIPS: "softfloat",
		OpenWrt: "mipsel_24kc",
		Debian:  "mipsel",
		Budget:  Budget{Program: 7_000_000, Package: 2_400_000},
		Small:   true,
		Emulator: &Emulator{
			System: "mipsel", Machine: "malta", CPU: "24Kf", Console: "ttyS0",
			Kernel: "linux-image-4kc-malta", User: "mipsel",
		},
	},
	{
		Name:   "mips",
		GOARCH: "mips", GOMIPS: "softfloat",
		OpenWrt: "mips_24kc",
		Small:   true,
		Emulator: &Emulator{
			System: "mips", Machine: "malta", CPU: "24Kf", Console: "ttyS0",
			User: "mips",
			// By the host's clock it misses its timer now and then, and stands still for 26 s,
			// until its counter comes round.
			Options: []string{"-icount", "shift=auto"},
		},
	},
	{
		Name:   "arm",
		GOARCH: "arm", GOARM: "7,softfloat",
		OpenWrt: "arm_cortex-a7",
		Debian:  "armhf",
		Emulator: &Emulator{
			System: "arm", Machine: "virt", CPU: "cortex-a7", Console: "ttyAMA0",
			Kernel: "linux-image-armmp-lpae",
		},
	},
	{
		Name:    "arm64",
		GOARCH:  "arm64",
		OpenWrt: "aarch64_cortex-a53",
		Debian:  "arm64",
		Emulator: &Emulator{
			System: "aarch64", Machine: "virt", CPU: "cortex-a53", Console: "ttyAMA0",
			Kernel: "linux-image-cloud-arm64",
		},
	},
	{
		Name:    "amd64",
		GOARCH:  "amd64",
		OpenWrt: "x86_64",
		Debian:  "amd64",
	},
}

// Find returns the target of that name.
func Find(name string) (Target, bool) {
	i := slices.IndexFunc(Targets, func(t Target) bool { return t.Name == name })
	if i < 0 {
		return Target{}, false
	}
	return Targets[i], true
}

// Env is the environment in which the go command builds for a target.
func (t Target) Env() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux",
		"GOARCH="+t.GOARCH, "GOMIPS="+t.GOMIPS, "GOARM="+t.GOARM)
}
