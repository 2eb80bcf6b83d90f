// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const conf = "/proc/sys/net/ipv6/conf"

// maxPacket is the largest IPv6 packet that a device sends, in bytes: its own MTU,
// or what a router has announced (RFC 4861, 4.6.4).
func maxPacket(device string) (int, error) {
	b, err := os.ReadFile(filepath.Join(conf, device, "mtu"))
	if err != nil {
		return 0, fmt.Errorf("reading MTU: %w", err)
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("reading MTU of %s: %w", device, err)
	}
	return mtu, nil
}

// Forwarding says whether the kernel forwards IPv6, as it has to with what is
// translated.
func Forwarding() bool {
	b, err := os.ReadFile(filepath.Join(conf, "all/forwarding"))
	return err == nil && strings.TrimSpace(string(b)) != "0"
}
