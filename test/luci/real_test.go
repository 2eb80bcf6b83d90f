// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build luci

package luci

import (
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
)

// A router's own LuCI at LUCI_URL, logged in to as root with LUCI_PASSWORD:
// both pages come up, fit, and complain of nothing. Nothing is changed there.
func TestRealLuCI(t *testing.T) {
	address := os.Getenv("LUCI_URL")
	if address == "" {
		t.Fatal("LUCI_URL is not set: http://192.168.1.1")
	}
	b := newBrowser(t)
	b.expected = []string{"403"} // the page that asks for the password is one
	const field = "input[name=luci_password]"
	b.run(chromedp.Navigate(address+cgi+statusPage), // whose login leads back to it
		chromedp.WaitReady(field, chromedp.ByQuery),
		// In one go: LuCI moves the form into a dialog when its scripts are there.
		chromedp.Evaluate(fmt.Sprintf("{ const f = document.querySelector(%q); f.value = %q; f.form.submit(); }", field, os.Getenv("LUCI_PASSWORD")), nil),
		chromedp.WaitReady("#view .braid", chromedp.ByQuery))
	for _, v := range []view{{width: 1920}, {width: 390}} {
		for name, page := range map[string]string{"status": statusPage, "settings": settingsPage} {
			b.visit(address+cgi+page, v)
			b.until(`document.querySelector('.bd-head b, .bd-advice, .bd-guide, .alert-message')`)
			b.fits(fmt.Sprint(name, " ", v.width))
			b.shot(fmt.Sprintf("real-%s-%d", name, v.width))
		}
	}
}
