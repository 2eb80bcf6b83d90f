// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pictures is where what was seen is kept.
const pictures = project + "/build/luci"

// browser is a tab of Debian's chromium. What a user would see as broken, an
// error on its console or a file that is not there, fails the test.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	expected []string // complaints that are none
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	must(t, err)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true))
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	must(t, chromedp.Run(ctx)) // it starts with the first call, and ends with that one's context
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	b.run(network.Enable(), log.Enable(), runtime.Enable())
	return b
}

func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complain("exception: " + e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			b.complain("console: " + strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError {
			b.complain("log: " + e.Entry.Text + " " + e.Entry.URL)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled {
			b.complain("request failed: " + e.ErrorText)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			b.complain(fmt.Sprintf("%d %s", e.Response.Status, e.Response.URL))
		}
	}
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fine := range b.expected {
		if strings.Contains(text, fine) {
			return
		}
	}
	b.t.Error(text)
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.shot("failed")
		b.t.Fatalf("%v", err)
	}
}

// view is how a page is looked at.
type view struct {
	width  int64
	theme  string
	lang   string
	height int64
}

// usual is how most is looked at.
var usual = view{width: 1000}

// open loads a page of the server's and waits until it shows something.
func (b *browser) open(s *server, at string, v view) {
	b.t.Helper()
	b.visit(s.URL+cgi+at+"?"+url.Values{"theme": {v.theme}, "lang": {v.lang}}.Encode(), v)
}

func (b *browser) visit(address string, v view) {
	b.t.Helper()
	if v.height == 0 {
		v.height = 1000
	}
	b.run(emulation.SetDeviceMetricsOverride(v.width, v.height, 1, v.width < 600), chromedp.Navigate(address))
	b.until(`document.querySelector('#view .braid') && !document.querySelector('#view > .spinning')`)
}

// eval evaluates an expression, a promise to its end.
func (b *browser) eval(expression string, into any) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, into, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// do runs statements.
func (b *browser) do(statements string) {
	b.t.Helper()
	b.eval("(() => { "+statements+" })()", nil)
}

// until waits until an expression holds.
func (b *browser) until(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		var ok bool
		b.eval("!!("+expression+")", &ok)
		if ok {
			return
		}
		if time.Now().After(deadline) {
			b.shot("failed")
			var text string
			b.eval("document.body.innerText", &text)
			b.t.Fatalf("not seen: %s\n%s", expression, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// says waits until the page, or a part of it, says something.
func (b *browser) says(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("Array.from(document.querySelectorAll(%q)).some(n => (n.innerText || n.textContent).includes(%q))", selector, text))
}

// click clicks on the first that matches and holds the text.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf("Array.from(document.querySelectorAll(%q)).find(n => n.innerText.includes(%q) && n.offsetParent)", selector, text)
	b.until(find)
	b.do(find + ".click()")
}

// fill types into the first field that matches.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)", selector))
	b.do(fmt.Sprintf("(n => { n.focus(); n.select(); })(document.querySelector(%q))", selector))
	b.run(chromedp.KeyEvent(text))
}

// choose gives an option of the form that is open a value, on whichever of its
// tabs it is.
func (b *browser) choose(option, value string) {
	b.t.Helper()
	b.do(fmt.Sprintf(`const n = document.querySelector('.modal [data-name=%s]').querySelector('select, input');
		n.value = %q; n.dispatchEvent(new Event('change', { bubbles: true }))`, option, value))
}

// shot keeps a picture of the whole page.
func (b *browser) shot(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	var png []byte
	err := chromedp.Run(ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).Do(ctx)
		return err
	}), chromedp.FullScreenshot(&png, 100))
	if err != nil {
		b.t.Error(err)
		return
	}
	must(b.t, os.MkdirAll(pictures, 0o755))
	must(b.t, os.WriteFile(filepath.Join(pictures, name+".png"), png, 0o644))
}

// fits fails if anything of the page is cut off or makes it scroll sideways.
func (b *browser) fits(what string) {
	b.t.Helper()
	var wrong []string
	b.eval(`(() => {
		const wide = document.documentElement.clientWidth, out = [];
		if (document.documentElement.scrollWidth > wide + 1)
			out.push('the page is ' + document.documentElement.scrollWidth + ' wide by ' + [...document.querySelectorAll('body *')].filter(n => n.getBoundingClientRect().right > wide + 1).map(n => n.nodeName + '.' + n.className).slice(0, 5));
		for (const n of document.querySelectorAll('#view *, .modal *')) {
			const r = n.getBoundingClientRect(), s = getComputedStyle(n);
			if (!r.width || s.visibility == 'hidden' || n.closest('svg, .cbi-dynlist > .add-item')) // LuCI's own + has no room in any form
				continue;
			const name = n.nodeName + '.' + n.className + ' "' + n.textContent.slice(0, 40) + '"';
			if (r.right > wide + 1 || r.left < -1)
				out.push(name + ' reaches from ' + r.left + ' to ' + r.right);
			if (s.overflowX != 'visible' && n.scrollWidth > n.clientWidth + 1 && !['INPUT', 'SELECT', 'TEXTAREA'].includes(n.nodeName))
				out.push(name + ' is cut off: ' + n.scrollWidth + ' in ' + n.clientWidth);
		}
		return out.slice(0, 5);
	})()`, &wrong)
	for _, w := range wrong {
		b.t.Errorf("%s: %s", what, w)
	}
}

// fitsAll is fits for a wide screen and for a telephone, by day and by night.
func (b *browser) fitsAll(what string) {
	b.t.Helper()
	for _, width := range []int64{1920, 390, usual.width} {
		b.run(emulation.SetDeviceMetricsOverride(width, 1000, 1, width < 600))
		for _, dark := range []bool{true, false} {
			b.eval(fmt.Sprintf("document.documentElement.dataset.darkmode = %v", dark), nil)
			// It has been drawn anew, and what changes slowly has changed.
			b.eval("new Promise(done => requestAnimationFrame(() => { document.getAnimations().forEach(a => a instanceof CSSTransition && a.finish()); requestAnimationFrame(done); }))", nil)
			b.fits(fmt.Sprintf("%s %d dark %v", what, width, dark))
		}
	}
}
