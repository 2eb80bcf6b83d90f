// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"braid/agent/report"
)

const (
	statusPage   = "admin/status/braid"
	settingsPage = "admin/network/braid"
)

// looks are the themes and widths in which pages have to fit.
var looks = []view{{width: 1920, theme: "light"}, {width: 1920, theme: "dark"}, {width: 1920, theme: "material", height: 2400},
	{width: 390, theme: "light"}, {width: 390, theme: "dark", lang: "de"}, {width: 390, theme: "material", height: 3000}}

func (v view) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s-%d-%s", v.theme, v.width, v.lang), "-")
}

// atWork is a house whose lines both carry a download.
func atWork(r report.Status) error {
	if r.State != report.StateOK || r.Connections.Open < 3 || r.WANs[1].RXRate < 1e6 {
		return fmt.Errorf("%+v", r)
	}
	return nil
}

func TestStatus(t *testing.T) {
	r, s := start(t, house)
	load(t, r, 3)
	eventually(t, r, atWork)
	b := newBrowser(t)

	b.open(s, statusPage, usual)
	b.says(".bd-head", "All 2 lines work.")
	b.says(".bd-events", "lte works")

	t.Run("one call each poll, none while hidden", func(t *testing.T) {
		b.until(`document.querySelectorAll('.bd-events li').length > 2`)
		time.Sleep(2100 * time.Millisecond)
		before, sum := s.count("braid status"), s.total()
		time.Sleep(5 * time.Second)
		if n, all := s.count("braid status")-before, s.total()-sum; n < 2 || n > 3 || all != n {
			t.Errorf("%d calls of status, %d of all in 5 s", n, all)
		}
		b.do(`Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }); document.dispatchEvent(new Event('visibilitychange'))`)
		time.Sleep(500 * time.Millisecond)
		before = s.total()
		time.Sleep(3 * time.Second)
		if n := s.total() - before; n != 0 {
			t.Errorf("%d calls while hidden", n)
		}
		b.do(`delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))`)
		time.Sleep(300 * time.Millisecond)
		if s.total() == before {
			t.Error("no call when seen again")
		}
	})
	t.Run("explain", func(t *testing.T) {
		b.fill("form[data-do=explain] input", "192.0.2.80\r")
		b.says(".braid", "through the converter: ")
		b.says(".braid li", "lte")
		b.fill("form[data-do=explain] input", "no such name\r")
		b.says(".alert-message", "no such address or name")
		b.fitsAll("explained")
	})
	t.Run("connections", func(t *testing.T) {
		b.click("button", "Show connections")
		b.until(`document.querySelectorAll('.bd-fold').length >= 3`)
		b.click(".bd-fold", "")
		b.says(".bd-unfolded li", "198.51.100.2")
		b.fill("form[data-do=filter] input", "203.0.113.9\r")
		b.says("td", "No connection.")
		b.fill("form[data-do=filter] input", "192.168.1.20\r")
		b.until(`document.querySelectorAll('.bd-fold').length >= 3`)
	})
	t.Run("focus, text and scroll stay", func(t *testing.T) {
		b.do(`document.querySelector('form[data-do=filter] input').focus(); document.querySelector('.bd-events').scrollTop = 7;
			window.kept = [ document.activeElement ]`)
		b.run(chromedp.KeyEvent("9")) // scrolls to where it is typed
		b.do(`window.scrollBy(0, -7); kept.push(window.scrollY, document.querySelector('.bd-card'))`)
		before := s.total()
		for s.total() < before+3 {
			time.Sleep(100 * time.Millisecond)
		}
		b.until(`document.activeElement == kept[0] && kept[0].value.endsWith('9') && window.scrollY == kept[1] && document.querySelector('.bd-card') == kept[2]`)
	})
	t.Run("role and probe, by keyboard", func(t *testing.T) {
		b.do(`document.querySelector('button[data-do=probe][data-wan=lte]').focus()`)
		b.run(chromedp.KeyEvent("\r"))
		b.until(`document.activeElement.disabled || document.activeElement == document.body || true`)
		for s.count("braid probe") == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		b.until(`!document.querySelector('button[data-do=probe][data-wan=lte]').disabled`)
		b.do(`document.querySelector('select[data-wan=lte]').focus()`)
		b.run(chromedp.KeyEvent("bac"))
		eventually(t, r, func(s report.Status) error {
			if s.WANs[1].EffectiveRole != "backup" {
				return fmt.Errorf("%+v", s.WANs[1])
			}
			return nil
		})
		b.says(".bd-card", "backup, configured bond")
		b.says(".bd-card .bd-why", "set until the configuration changes")
		b.do(`const s = document.querySelector('select[data-wan=lte]'); s.value = 'bond'; s.dispatchEvent(new Event('change', { bubbles: true }))`)
		eventually(t, r, atWork)
	})
	t.Run("spans", func(t *testing.T) {
		b.click("button[data-do=span]", "1 h")
		b.says(".bd-graph text", "−1 h")
		b.click("button[data-do=span]", "10 min")
		b.says(".bd-graph text", "−10 min")
	})
	for _, v := range looks {
		b.open(s, statusPage, v)
		b.until(`document.querySelectorAll('.bd-wire').length >= 5 && document.querySelectorAll('.bd-band').length == 4`)
		b.says(".bd-card b", "lte")
		b.click("button[data-do=connections]", "")
		b.until(`document.querySelectorAll('.bd-fold').length >= 3`)
		b.click(".bd-fold", "")
		b.fits("status " + v.String())
		b.shot("status-" + v.String())
	}
	b.open(s, "admin/status/overview", usual)
	b.says(".braid td", "lte")
	b.fits("overview")
	b.shot("overview")
}

// Each way not to get an answer is told apart.
func TestStatusTroubles(t *testing.T) {
	r, s := start(t, house)
	b := newBrowser(t)
	b.open(s, statusPage, usual)
	b.says(".bd-head", "lines work")

	must(t, r.Agent.Signal(syscall.SIGSTOP))
	b.until(`document.querySelector('.bd-stale')`)
	b.says(".alert-message", "The agent does not answer.")
	b.fitsAll("silent")
	b.shot("status-silent")
	must(t, r.Agent.Signal(syscall.SIGCONT))
	b.until(`!document.querySelector('.bd-stale')`)

	must(t, r.Agent.Stop())
	b.says(".alert-message", "The agent does not run.")
	b.fitsAll("stopped")
	s.change(func() { s.missing = true })
	b.says(".alert-message", "braid is not installed.")
	b.open(s, statusPage, usual)
	b.says(".alert-message", "braid is not installed.")
	b.fitsAll("not installed")
	must(t, r.StartAgent())
	b.says(".bd-head", "lines work")

	s.change(func() { s.reader, s.missing = true, false })
	b.open(s, statusPage, usual)
	b.says(".bd-head", "lines work")
	b.until(`!document.querySelector('[data-do=probe], [data-do=role]')`)
	b.open(s, settingsPage, usual)
	b.says(".braid", "Your account may see the status")
	b.fitsAll("settings of a reader")
	if n := s.count("uci get braid"); n != 0 {
		t.Errorf("the secrets were asked for %d times", n)
	}
	g := s.acl["luci-app-braid"]
	g.Read.Ubus = nil
	s.change(func() { s.acl["luci-app-braid"] = g })
	b.open(s, statusPage, usual)
	b.says(".alert-message", "You are not allowed to see this")
	b.fitsAll("not allowed")
}
