// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/config"
	"braid/agent/report"
	"braid/agent/uci"
	"braid/test/rig"
)

func file(t *testing.T, r *rig.Rig) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.UCI, "braid"))
	must(t, err)
	return string(raw)
}

// applied waits until LuCI has applied what was saved.
func (s *server) waitApplied() string {
	s.t.Helper()
	select {
	case how := <-s.applied:
		return how
	case <-time.After(15 * time.Second):
		s.t.Fatal("nothing was applied")
	}
	return ""
}

const saveApply = ".cbi-page-actions .cbi-button-apply, .cbi-page-actions .cbi-button-positive"

func TestSettings(t *testing.T) {
	r, s := start(t, house)
	b := newBrowser(t)
	for _, v := range looks {
		b.open(s, settingsPage, v)
		b.until(`document.querySelectorAll('.cbi-section-table-row').length >= 4`)
		b.fits("settings " + v.String())
		b.shot("settings-" + v.String())
	}
	b.open(s, settingsPage, usual)
	b.says(".cbi-section-table-row", "automatic: primary")
	b.says(".bd-verdict, .cbi-section-table-row", "192.0.2.10")

	t.Run("test a converter", func(t *testing.T) {
		b.click("[data-name=_test] button, td[data-name=_test] .cbi-button, button", "Test")
		b.says(".bd-verdict", "Reachable and serves this router")
	})
	t.Run("a second primary is refused", func(t *testing.T) {
		for _, wan := range []string{"fibre", "lte"} {
			b.click(fmt.Sprintf(".cbi-section-table-row[data-sid=%s] button", wan), "Edit")
			b.says(".modal-overlay-active .modal h4", "Lines: "+wan)
			if wan == "fibre" {
				b.shot("settings-line")
				b.fitsAll("form of a line")
			}
			b.choose("role", "primary")
			b.click(".modal button", "Save")
			if wan == "lte" {
				b.says(".modal .alert-message", "lte.role: fibre is primary already")
				b.fitsAll("refused")
				b.click(".modal button", "Dismiss")
			}
			b.until(`!document.querySelector('body.modal-overlay-active')`)
		}
		b.says(".cbi-section-table-row[data-sid=lte]", "bond")
	})
	t.Run("a bad value shows while it is typed", func(t *testing.T) {
		b.click(".cbi-section-table-row[data-sid=mcp] button", "Edit")
		b.says(".modal-overlay-active .modal h4", "Converters: mcp")
		b.fitsAll("form of a converter")
		b.fill(".modal [data-name=port] input", "70000\t")
		b.until(`document.querySelector('.modal [data-name=port] .cbi-input-invalid')`)
		b.fill(".modal [data-name=port] input", "5124\t")
		b.until(`!document.querySelector('.modal .cbi-input-invalid')`)
		b.until(`document.querySelector('.modal [data-name=cookie] input').type == 'password'`)
		b.click(".modal button", "Dismiss")
		b.until(`!document.querySelector('body.modal-overlay-active')`)
	})
	t.Run("a converter by its pairing string", func(t *testing.T) {
		b.fill("input[aria-label^='braid:']", "braid://nonsense")
		b.click(".cbi-section-create button", "Add")
		b.says(".bd-verdict", "Neither a pairing string nor an address.")
		b.fill("input[aria-label^='braid:']", "192.0.2.99")
		b.do(`document.querySelector("input[aria-label^='braid:']").parentNode.querySelector('button').click()`)
		b.says(".cbi-section-table-row[data-sid=converter]", "192.0.2.99")
	})
	t.Run("a rule may name every line", func(t *testing.T) {
		b.click(".cbi-section-table-row[data-sid=games] button", "Edit")
		b.says(".modal-overlay-active .modal h4", "Rules: games")
		b.fitsAll("form of a rule")
		b.until(`document.querySelector('.modal [data-name=wan] option[value=lte]')`)
		b.choose("wan", "lte")
		b.click(".modal button", "Save")
		b.says(".cbi-section-table-row[data-sid=games]", "lte")
	})
	b.click(saveApply, "Save & Apply")
	if how := s.waitApplied(); how != "apply_unchecked" {
		t.Errorf("braid's own settings were applied by %s", how)
	}
	text := file(t, r)
	for _, want := range []string{"192.0.2.99", "option role 'primary'", "option wan 'lte'"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not saved:\n%s", want, text)
		}
	}
	if out, err := r.Braid("status"); err != nil || !strings.Contains(string(out), "192.0.2.99") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A newcomer answers four questions, and it runs.
func TestGuide(t *testing.T) {
	r, s := start(t, "config globals 'globals'\n\toption enabled '0'\n")
	b := newBrowser(t)
	for _, v := range looks[2:4] {
		b.open(s, settingsPage, v)
		b.says(".bd-guide", "Which is your fixed line?")
		b.fits("guide " + v.String())
		b.shot("guide-" + v.String())
	}
	b.open(s, settingsPage, usual)
	b.until(`document.querySelector('.bd-guide input[type=radio][value=wan]').checked && document.querySelector('.bd-guide input[type=checkbox][value=wwan]').checked`)
	b.until(`!document.querySelector('.bd-guide input[value=wan6], .bd-guide input[value=lan]')`)
	b.fill(".bd-guide input[aria-label^='braid:']", "192.0.2.10")
	b.click(".bd-guide button", "Test")
	b.says(".bd-guide", "Reachable and serves this router")
	b.fitsAll("guide, tested")
	b.shot("guide")
	b.click(".bd-guide button", "Switch on")
	s.waitApplied()
	eventually(t, r, func(s report.Status) error {
		if s.State != report.StateOK || len(s.WANs) != 2 || s.WANs[1].Kind != "cellular" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// A line is added in two clicks, and offered elsewhere at once.
func TestAddLine(t *testing.T) {
	r, s := start(t, "config globals 'globals'\n\nconfig wan 'fibre'\n\tlist interface 'wan'\n")
	b := newBrowser(t)
	b.open(s, settingsPage, usual)
	b.says(".bd-advice", "There is only one line.")
	b.click(".bd-add button", "wwan")
	b.says(".cbi-section-table-row[data-sid=wwan]", "wwan")
	b.says(".bd-add", "Every interface is a line already.")
	b.until(`!document.querySelector('.bd-advice').innerText.includes('only one line')`)
	b.click(saveApply, "Save & Apply")
	s.waitApplied()
	if text := file(t, r); !strings.Contains(text, "config wan 'wwan'") || !strings.Contains(text, "'cellular'") {
		t.Errorf("not saved:\n%s", text)
	}
}

// byHand is a configuration as people write it: what the page writes otherwise
// means the same.
const byHand = `
config globals
	option enabled 'yes'
	option steer 'off'
	list lan 'lan'

config wan 'fibre'
	list interface 'wan'

config wan 'lte'
	list interface 'wwan'
	option roaming '1'

config converter 'mcp'
	option srv 'isp.example'
	option cookie 'c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0'

config rule 'games'
	option enabled 'on'
	option proto 'udp'
	option path 'pass'

config rule 'bank'
	option enabled 'no'
	option path 'direct'
`

// meaning is what the agent makes of the file.
func meaning(t *testing.T, r *rig.Rig) config.Config {
	t.Helper()
	p, err := uci.Load(r.UCI, "braid")
	must(t, err)
	c, problems := config.Parse(p)
	must(t, problems.Err())
	return c
}

// A change changes nothing else, however the rest is written.
func TestWrittenByHand(t *testing.T) {
	r, s := start(t, byHand)
	want := meaning(t, r)
	b := newBrowser(t)
	b.open(s, settingsPage, usual)
	b.says(".cbi-section-table-row[data-sid=mcp]", "in the DNS of isp.example")
	for _, section := range []string{"lte", "mcp", "games", "bank"} {
		b.click(fmt.Sprintf(".cbi-section-table-row[data-sid=%s] button", section), "Edit")
		b.says(".modal-overlay-active .modal h4", ": "+section)
		if section == "mcp" {
			b.until(`document.querySelector('.modal [data-name=cookie] input').type == 'password'`)
			b.fill(".modal [data-name=srv] input", "other.example")
		}
		b.click(".modal button", "Save")
		b.until(`!document.querySelector('body.modal-overlay-active')`)
	}
	want.Converters[0].SRV = "other.example"
	b.do(`const n = document.querySelector('[data-name=block_quic] input[type=checkbox]'); n.checked = true; n.dispatchEvent(new Event('change', { bubbles: true }))`)
	want.Globals.BlockQUIC = true
	b.click(saveApply, "Save & Apply")
	s.waitApplied()
	if diff := cmp.Diff(want, meaning(t, r), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("%s\n%s", diff, file(t, r))
	}
}

// A form that is closed takes back what it was refused, and nothing else.
func TestDismiss(t *testing.T) {
	_, s := start(t, house)
	b := newBrowser(t)
	b.open(s, settingsPage, usual)
	const ticked = `document.querySelector('[data-name=block_quic] input[type=checkbox]').checked`
	b.do(ticked + " = true")
	b.click(".cbi-section-table-row[data-sid=lte] button", "Edit")
	b.says(".modal-overlay-active .modal h4", "Lines: lte")
	b.click(".modal button", "Dismiss")
	b.until(`!document.querySelector('body.modal-overlay-active')`)
	b.until(ticked)

	b.fill(".cbi-section-create-name", "bank")
	b.click(".cbi-section-create button", "Add a rule")
	b.says(".modal-overlay-active .modal h4", "Rules: bank")
	b.choose("path", "convert")
	b.choose("proto", "udp")
	b.click(".modal button", "Save")
	b.says(".modal .alert-message", "bank.path: convert is for TCP")
	b.click(".modal button", "Dismiss")
	b.until(`!document.querySelector('body.modal-overlay-active')`)
	b.click(".cbi-section-table-row[data-sid=games] button", "Edit")
	b.click(".modal button", "Save") // is not refused for what was
	b.until(`!document.querySelector('body.modal-overlay-active')`)
}

// A file with faults in two sections is put right one after the other; another
// fault is refused all the same.
func TestFaultsInTheFile(t *testing.T) {
	r, s := start(t, house)
	wrong := strings.ReplaceAll(house, "\tlist interface", "\toption weight '0'\n\tlist interface")
	must(t, os.WriteFile(filepath.Join(r.UCI, "braid"), []byte(wrong), 0o644))
	b := newBrowser(t)
	b.open(s, settingsPage, usual)
	for _, wan := range []string{"fibre", "lte"} {
		b.says(".bd-advice", wan+`.weight: "0" is not a number from 1 to 1000`)
		b.click(fmt.Sprintf(".cbi-section-table-row[data-sid=%s] button", wan), "Edit")
		b.says(".modal-overlay-active .modal h4", "Lines: "+wan)
		b.choose("weight", "50")
		b.choose("role", "primary")
		b.click(".modal button", "Save")
		if wan == "lte" {
			b.says(".modal .alert-message", "lte.role: fibre is primary already")
			b.choose("role", "bond")
			b.click(".modal button", "Save")
		}
		b.until(`!document.querySelector('body.modal-overlay-active')`)
	}
	b.until(`!document.querySelector('.bd-advice').innerText.includes('weight')`)
	b.click(saveApply, "Save & Apply")
	s.waitApplied()
	for _, w := range meaning(t, r).WANs {
		if w.Weight != 50 {
			t.Errorf("%+v", w)
		}
	}
}
