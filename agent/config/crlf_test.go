// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"

	"braid/agent/uci"
)

// Lines that end in CR LF are told of once, and read.
func TestCRLF(t *testing.T) {
	_, problems := Parse(uci.Package{Path: "/etc/config/braid", CRLF: 3})
	if problems.Err() != nil || len(problems) != 1 || !problems[0].Warning {
		t.Fatalf("problems %v", problems)
	}
	want := "/etc/config/braid: line 3, and perhaps others, ends in CR LF: it is read, but values over several lines would keep the CR"
	if got := problems[0].Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
