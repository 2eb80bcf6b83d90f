// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"braid/cross"
)

// patience is how long a machine may take. The fastest is done in 20 s.
const patience = 8 * time.Minute

// bootMachine runs the guest on the target's machine.
func bootMachine(ctx context.Context, dist string, t cross.Target) error {
	root := make(initramfs)
	if err := addPackages(root, dist, t); err != nil {
		return err
	}
	guest, err := cross.Compile(".", "cross/guest", t, "dev")
	if err != nil {
		return err
	}
	root["init"] = file{data: guest, mode: 0o755}
	for _, command := range []string{"ip", "sh"} {
		root["bin/"+command] = file{link: "/init"}
	}
	kernel, err := addSystem(root, t)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "braid-boot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image, initrd := filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd")
	if err := errors.Join(os.WriteFile(image, kernel, 0o644), os.WriteFile(initrd, root.pack(), 0o644)); err != nil {
		return err
	}
	return emulate(ctx, t, image, initrd)
}

// addPackages takes the programs out of the packages in dist. The converter
// has none for most targets and is built then.
func addPackages(root initramfs, dist string, t cross.Target) error {
	for _, b := range cross.Builds("*", 0, t.Name) {
		names, err := filepath.Glob(filepath.Join(dist, fmt.Sprintf("%s_*_%s.%s", b.Name, b.Architecture(), b.Format)))
		if err != nil {
			return err
		}
		if len(names) != 1 {
			return fmt.Errorf("there are %d packages of %s for %s in %s, and not one", len(names), b.Name, t.Name, dist)
		}
		tree, err := cross.Open(names[0])
		if err != nil {
			return err
		}
		for name, f := range tree {
			root[name] = file{data: f.Data, mode: f.Mode}
		}
	}
	const converter = "usr/bin/braid-mcp"
	if _, ok := root[converter]; ok {
		return nil
	}
	mcp, err := cross.Compile(".", "mcp/cmd/braid-mcp", t, "dev")
	root[converter] = file{data: mcp, mode: 0o755}
	return err
}

// addSystem adds kernel modules and nft, and returns the kernel.
func addSystem(root initramfs, t cross.Target) ([]byte, error) {
	if t.Emulator.Kernel == "" {
		root["bin/nft"] = file{link: "/init"}
		return ownKernel(t)
	}
	dir, err := cacheDir(suite, t.Debian)
	if err != nil {
		return nil, err
	}
	s, err := debian{t.Debian, dir}.files(t.Emulator.Kernel)
	if err != nil {
		return nil, err
	}
	modules, err := s.modules()
	if err != nil {
		return nil, err
	}
	for i, m := range modules {
		root[fmt.Sprintf("modules/%03d.ko", i)] = file{data: m, mode: 0o644}
	}
	for name, f := range s.files {
		if !strings.HasPrefix(name, "lib/modules/") {
			root[name] = f
		}
	}
	return s.kernel, nil
}

// ownKernel reads the kernel of a target for which Debian has none.
func ownKernel(t cross.Target) ([]byte, error) {
	name, err := findKernel(t)
	if err != nil {
		return nil, err
	}
	kernel, err := output(exec.Command("xz", "-dcf", name))
	if err != nil {
		return nil, fmt.Errorf("reading a kernel: %w", err)
	}
	return []byte(kernel), nil
}

// findKernel gives the file that BRAID_KERNEL_TARGET names, or one that is there
// already, or one that cross/kernel builds now.
func findKernel(t cross.Target) (string, error) {
	if name := os.Getenv("BRAID_KERNEL_" + strings.ToUpper(t.Name)); name != "" {
		return name, nil
	}
	dir, err := cacheDir("kernel")
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "vmlinux-"+t.Name+".xz")
	names := []string{built}
	// One may lie beside the project, or beside what that is in.
	for up, n := "..", 0; n < 3; n++ {
		names = append(names, filepath.Join(up, "shared/examples/qemu/vmlinux-mips-be.xz"))
		up = filepath.Join(up, "..")
	}
	for _, name := range names {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	fmt.Println("building a kernel, which takes some minutes")
	if _, err := output(exec.Command("cross/kernel", built)); err != nil {
		return "", fmt.Errorf("building a kernel: %w", err)
	}
	return built, nil
}

// emulate shows the console, and wants the guest's last line to say that all
// is well.
func emulate(ctx context.Context, t cross.Target, kernel, initrd string) error {
	e := t.Emulator
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	options := append([]string{
		"-M", e.Machine, "-cpu", e.CPU, "-m", "512", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "quiet panic=-1 console=" + e.Console}, e.Options...)
	cmd := exec.CommandContext(ctx, "qemu-system-"+e.System, options...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	last := watch(t.Name, console, began)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("emulating: %w", errors.Join(err, ctx.Err()))
	}
	if last != "DONE fails=0" {
		return fmt.Errorf("the machine ended with %q", last)
	}
	return nil
}

// watch prints what the console says and returns the line that begins with
// DONE.
func watch(name string, console io.Reader, began time.Time) (last string) {
	in := bufio.NewScanner(console)
	for in.Scan() {
		line := strings.TrimRight(in.Text(), "\r")
		fmt.Printf("%-6s %6.1f %s\n", name, time.Since(began).Seconds(), line)
		if strings.HasPrefix(line, "DONE ") {
			last = line
		}
	}
	return last
}
