// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Clock reads both clocks of this host.
type Clock struct{ boot string }

// NewClock fails where /proc tells no boot id.
func NewClock() (*Clock, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	c := &Clock{strings.TrimSpace(string(id))}
	if err == nil && c.boot == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the boot id: %w", err)
	}
	return c, nil
}

// Now is the present moment.
func (c *Clock) Now() (Moment, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return Moment{}, fmt.Errorf("reading the uptime: %w", err)
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	up, err := time.ParseDuration(strings.TrimSpace(seconds) + "s")
	if err != nil {
		return Moment{}, fmt.Errorf("reading the uptime: %w", err)
	}
	// Round strips the monotonic reading, by which a step would not be seen.
	return Moment{Wall: time.Now().Round(0), Boot: c.boot, Up: up}, nil
}
