// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build pictures

package luci

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"braid/test/lab"
	"braid/test/traffic"
)

const documents = project + "/docs/pictures/"

func TestGuidePicture(t *testing.T) {
	_, s := start(t, "config globals 'globals'\n\toption enabled '0'\n")
	b := newBrowser(t)
	b.open(s, settingsPage, view{width: 1000, theme: "light"})
	b.fill(".bd-guide input[aria-label^='braid:']", "192.0.2.10")
	b.click(".bd-guide button", "Test")
	b.says(".bd-guide", "Reachable and serves this router")
	var png []byte
	b.run(chromedp.Screenshot(".bd-guide", &png, chromedp.ByQuery))
	must(t, os.WriteFile(documents+"luci-guide.png", png, 0o644))
}

// The pictures of docs/luci.md: some minutes of a house whose cellular line
// fails once. What a modem and a quota tell is added to what the agent does.
func TestPictures(t *testing.T) {
	r, s := start(t, house)
	for _, part := range []struct {
		downloads int
		length    time.Duration
		dead      bool
	}{{1, 25 * time.Second, false}, {3, 40 * time.Second, false}, {1, 15 * time.Second, true}, {3, 40 * time.Second, false}} {
		r.Link("lte").Blackhole(part.dead)
		ctx, cancel := context.WithTimeout(t.Context(), part.length)
		ended := make(chan struct{}, part.downloads)
		for range part.downloads {
			go func() {
				r.FromHost(lab.Server4).Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: part.length})
				ended <- struct{}{}
			}()
		}
		for range part.downloads {
			<-ended
		}
		cancel()
	}
	load(t, r, 3)
	eventually(t, r, atWork)
	s.change(func() {
		s.distort = func(method string, answer any) any {
			answer = dress(method, answer)
			if status, ok := answer.(table); ok && method == "status" {
				status["problems"] = []any{}
			}
			return answer
		}
	})
	b := newBrowser(t)
	for _, p := range []struct {
		name, page, seen string
		view
	}{
		{"luci-status", statusPage, statusSeen, view{width: 1280, theme: "light"}},
		{"luci-dark", statusPage, statusSeen, view{width: 1280, theme: "dark"}},
		{"luci-phone", statusPage, statusSeen, view{width: 390, theme: "dark"}},
		{"luci-settings", settingsPage, `document.querySelectorAll('.cbi-section-table-row').length >= 4`, view{width: 1280, theme: "light"}},
	} {
		b.open(s, p.page, p.view)
		b.until(p.seen)
		b.fits(p.name)
		b.shot(p.name)
		png, err := os.ReadFile(filepath.Join(pictures, p.name+".png"))
		must(t, err)
		must(t, os.WriteFile(documents+p.name+".png", png, 0o644))
	}
}

// statusSeen says that the status page has drawn all that it draws.
const statusSeen = `document.querySelectorAll('.bd-wire').length >= 5 && document.querySelectorAll('.bd-band').length == 4 &&
	document.querySelector('.bd-cards').innerText.includes('Example Mobile')`
