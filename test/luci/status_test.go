// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"fmt"
	"testing"

	"braid/agent/report"
)

func TestStatus(t *testing.T) {
	r, s := start(t, house)
	load(t, r, 3)
	eventually(t, r, func(s report.Status) error {
		if s.State != report.StateOK || s.Connections.Open < 3 || s.WANs[1].RXRate < 1e6 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b := newBrowser(t)
	for _, v := range []view{{width: 1920, theme: "light"}, {width: 1920, theme: "dark"}, {width: 1920, theme: "material"},
		{width: 390, theme: "light"}, {width: 390, theme: "material"}} {
		name := fmt.Sprintf("status-%s-%d", v.theme, v.width)
		b.open(s, "admin/status/braid", v)
		b.says(".braid-card b", "lte")
		b.says(".braid-headline, .braid-head", "All 2 lines work.")
		b.until(`document.querySelectorAll('.braid-wire').length >= 5 && document.querySelectorAll('.braid-band').length == 4`)
		b.fits(name)
		b.shot(name)
	}
}
