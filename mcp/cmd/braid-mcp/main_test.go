// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestVersionAndHelp(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
		out    string
	}{
		{"version", 0, "dev\n"},
		{"--version", 0, "braid-mcp dev\n"},
		{"--version now", exitUsage, ""},
		{"help", 0, usage},
		{"-h", 0, usage},
		{"serve --help", 0, usage},
		{"check -config nowhere -help", 0, usage},
		{"cookie -h", 0, usage},
		{"version --help", 0, usage},
	} {
		var out, errs strings.Builder
		if status := run(t.Context(), strings.Fields(tt.args), &out, &errs); status != tt.status || out.String() != tt.out {
			t.Errorf("braid-mcp %s: status %d, %q, %q", tt.args, status, &out, &errs)
		}
	}
}
