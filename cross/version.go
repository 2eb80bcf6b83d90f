// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Version asks for the version of the project and the date of its last
// commit, in seconds.
func Version(project string) (version string, epoch int64, err error) {
	ask := func(args ...string) string {
		out, runErr := exec.Command(filepath.Join(project, "cross", "version"), args...).Output()
		if err == nil {
			err = runErr
		}
		return strings.TrimSpace(string(out))
	}
	version, date := ask(), ask("epoch")
	if err == nil {
		epoch, err = strconv.ParseInt(date, 10, 64)
	}
	if err != nil {
		return "", 0, fmt.Errorf("asking git for the version: %w", err)
	}
	return version, epoch, nil
}
