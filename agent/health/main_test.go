// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }
