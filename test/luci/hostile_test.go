// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"braid/agent/modem"
	"braid/agent/report"
)

// hostile is what a carrier, a server or a neighbour may call himself.
const hostile = `<img src=x onerror="window.owned=1"><script>window.owned=1</script>"'&amp;{total}%s`

// words are what the page decides by; all other text of an answer is text.
var words = regexp.MustCompile(`^(|ok|degraded|down|disabled|up|off|primary|bond|overflow|backup|fixed|cellular|public|private|shared|none|convert|direct|pass|wan|converter|config|taken|ipv4|ipv6|native)$`)

func distort(v any) any {
	switch v := v.(type) {
	case string:
		if words.MatchString(v) {
			return v
		}
		return v + hostile
	case table:
		out := table{}
		for k, item := range v {
			out[k] = distort(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = distort(item)
		}
		return out
	}
	return v
}

// dress adds to an answer what an agent with modems and quotas tells as well.
func dress(method string, answer any) any {
	switch s, _ := answer.(table); method {
	case "events":
		for i, e := range modemEvents {
			s["events"] = append(s["events"].([]any), table{"number": modemEvent + i, "age": 1, "type": e.Type, "name": e.Name, "from": e.From, "to": e.To, "reason": e.Reason})
		}
	case "status":
		for _, w := range s["wans"].([]any) {
			w := w.(table)
			if w["kind"] == "cellular" {
				w["quota"] = table{"used": 43.2e9, "limit": 50e9, "resets": 777600}
				w["cellular"] = table{"source": "modemmanager", "model": "Quectel EM12", "operator": "Example Mobile", "technology": "LTE", "signal": 64, "rsrp": -97.0,
					"rsrq": -11.0, "sinr": 9.0, "registration": "home", "roaming": false, "lock": "none", "failure": "", "ip_type": "ipv4v6"}
			}
		}
		s["problems"] = append(s["problems"].([]any), table{"section": "lte", "option": "gateway", "message": "no gateway on lte, and no option gateway", "warning": true})
	}
	return answer
}

// modemEvent is the number of the first of modemEvents, beyond those of the
// agent's own.
const modemEvent = 1000

// modemEvents are one of each way in which a modem may stand with its network,
// then those of a quota.
var modemEvents = func() (all []report.Event) {
	facts := []modem.Facts{{}, {Present: true}, {Present: true, Lock: "sim-pin"}, {Present: true, Failure: "no SIM"}}
	for _, r := range []modem.Registration{modem.Idle, modem.Home, modem.Searching, modem.Denied, modem.Roaming, modem.Emergency, modem.Restricted} {
		facts = append(facts, modem.Facts{Present: true, Registration: r})
	}
	for _, f := range facts {
		to, reason := f.Condition()
		all = append(all, report.ModemEvent{WAN: "lte", To: to, Reason: reason}.Entry())
	}
	return append(all, report.QuotaEvent{WAN: "lte", Percent: 80}.Entry(), report.QuotaEvent{WAN: "lte", Percent: 100}.Entry())
}()

func TestModemAndQuotaAreShown(t *testing.T) {
	r, s := start(t, house)
	load(t, r, 3)
	eventually(t, r, atWork)
	s.change(func() { s.distort = dress })
	b := newBrowser(t)
	for _, v := range looks {
		b.open(s, statusPage, v)
		b.says(".bd-card", "Example Mobile")
		b.says(".bd-bar", "43.2 GB")
		b.says(".bd-legs", "2001:db8:")
		for i, e := range modemEvents {
			at := fmt.Sprintf(".bd-events li[data-key='%d']", modemEvent+i)
			if e.To != "unknown" {
				b.until(fmt.Sprintf("getComputedStyle(document.querySelector(%q)).backgroundColor != 'rgb(138, 148, 160)'", at+" .bd-dot"))
			}
			if v.lang == "de" { // in English such a word is what is said
				b.until(fmt.Sprintf("!document.querySelector(%q).innerText.includes(%q)", at, "lte "+e.To))
			}
		}
		b.fits("with modem, " + v.String())
		b.shot("modem-" + v.String())
	}
}

// Names from outside are text, wherever they turn up.
func TestHostileNames(t *testing.T) {
	r, s := start(t, house)
	load(t, r, 3)
	eventually(t, r, atWork)
	s.change(func() { s.distort = func(method string, v any) any { return distort(dress(method, v)) } })
	b := newBrowser(t)
	b.open(s, statusPage, view{width: 390})
	b.says(".bd-card b", hostile)
	b.click("button[data-do=connections]", "")
	b.until(`document.querySelectorAll('.bd-fold').length >= 3`)
	b.click(".bd-fold", "")
	b.fill("form[data-do=explain] input", "192.0.2.80\r")
	b.says(".braid p", hostile)
	b.fits("hostile names")
	b.shot("hostile")
	b.open(s, "admin/status/overview", view{width: 390})
	b.says(".braid td", hostile)
	b.open(s, settingsPage, view{width: 390})
	b.says(".braid", "Lines")
	b.click("button", "Test")
	b.says(".bd-verdict", "Reach")
	time.Sleep(time.Second)
	var owned bool
	b.eval("!!window.owned || !!document.querySelector('img[src=x]')", &owned)
	if owned {
		t.Error("a name was taken for markup")
	}
}

// The page's own sources make no markup of text.
func TestNoMarkup(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|rawhtml|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\bE\(|EventSource|eval\(|https?://[^w]`)
	// What follows a tag and its attributes has to be a list.
	call := regexp.MustCompile(`\b(?:el|svg)\((?:'[^']*'|tag), (?:\{[^}]*\}, )?`)
	list := regexp.MustCompile(`^(?:\[|\{|attrs|children|bands\(|(?:[\w.]|\([^()]*\))+\.(?:map|concat)\()`)
	must(t, filepath.WalkDir(filepath.Join(sources, "htdocs"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".js" {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(raw), "\n") {
			if forbidden.MatchString(line) {
				t.Errorf("%s:%d: %s", name, i+1, strings.TrimSpace(line))
			}
			for _, at := range call.FindAllStringIndex(line, -1) {
				if rest := line[at[1]:]; !list.MatchString(rest) {
					t.Errorf("%s:%d: no list of children: %.60s", name, i+1, rest)
				}
			}
		}
		return nil
	}))
}
