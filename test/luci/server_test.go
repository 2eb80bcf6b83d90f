// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/agent/ubus"
	"braid/cross"
)

const project = "../.."

// server stands for a router's uhttpd and rpcd: it serves the page as it is
// shipped, within LuCI, and passes calls on to the agent's ubus.
type server struct {
	*httptest.Server
	t       *testing.T
	luci    string // LuCI's sources; empty: the harness stands for them
	web     cross.Tree
	de      map[uint32]string
	uci     *uciStore
	acl     map[string]grant
	socket  string
	applied chan string // how what was saved has been applied

	mu       sync.Mutex
	reader   bool // who looks may only look
	missing  bool // the program is not installed
	distort  func(method string, answer any) any
	requests int
	calls    map[string]int
}

// grant is one group of /usr/share/rpcd/acl.d.
type grant struct {
	Read, Write struct {
		Ubus map[string][]string `json:"ubus"`
	}
}

func newServer(t *testing.T, socket, uciDir string) *server {
	t.Helper()
	s := &server{t: t, luci: os.Getenv("LUCI_SRC"), uci: newUCIStore(uciDir), socket: socket,
		applied: make(chan string, 10), calls: make(map[string]int)}
	var err error
	s.web, err = cross.Web(filepath.Join(project, "luci/htdocs"))
	must(t, err)
	acl, err := os.ReadFile(filepath.Join(project, "luci/root/usr/share/rpcd/acl.d/luci-app-braid.json"))
	must(t, err)
	must(t, json.Unmarshal(acl, &s.acl))
	po, err := os.ReadFile(filepath.Join(project, "luci/po/de/braid.po"))
	must(t, err)
	messages, err := cross.ReadPO(string(po))
	must(t, err)
	lmo, err := messages.LMO()
	must(t, err)
	s.de, err = cross.ReadLMO(lmo)
	must(t, err)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// change sets something while requests are served.
func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// total is how many calls of the agent there were.
func (s *server) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, times := range s.calls {
		if strings.HasPrefix(what, "braid ") {
			n += times
		}
	}
	return n
}

const cgi = "/cgi-bin/luci/"

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch p := r.URL.Path; {
	case p == "/favicon.ico" || s.luci == "" && path.Base(p) == "brand.png":
		w.WriteHeader(http.StatusNoContent)
	case p == "/ubus/" || p == cgi+"admin/ubus":
		s.rpc(w, r)
	case p == cgi+"admin/menu":
		io.WriteString(w, menu)
	case strings.HasPrefix(p, cgi+"admin/translations/"):
		s.translations(w, path.Base(p))
	case strings.HasPrefix(p, cgi+"admin/uci/"):
		s.apply(w, path.Base(p))
	case strings.HasPrefix(p, cgi):
		s.page(w, r, strings.TrimPrefix(p, cgi))
	case strings.HasPrefix(p, "/luci-static/"):
		s.file(w, r, strings.TrimPrefix(p, "/"))
	default:
		http.NotFound(w, r)
	}
}

// file serves the page's own files, then LuCI's.
func (s *server) file(w http.ResponseWriter, r *http.Request, name string) {
	data, ok := s.web[name]
	if !ok {
		dirs := []string{"harness"}
		if s.luci != "" {
			dirs = []string{"modules/luci-base/htdocs", "modules/luci-mod-status/htdocs", "themes/luci-theme-bootstrap/htdocs", "themes/luci-theme-material/htdocs"}
			for i := range dirs {
				dirs[i] = filepath.Join(s.luci, dirs[i])
			}
		}
		for _, dir := range dirs {
			if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				data.Data, ok = raw, true
				break
			}
		}
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Write(data.Data)
}

// page is what LuCI's templates make of a menu entry.
func (s *server) page(w http.ResponseWriter, r *http.Request, at string) {
	view := map[string]string{"admin/status/braid": "braid.status", "admin/network/braid": "braid.settings", "admin/status/overview": "status.index"}[at]
	if view == "" {
		http.NotFound(w, r)
		return
	}
	query := r.URL.Query()
	theme, mode, lang := "bootstrap", "", query.Get("lang")
	switch query.Get("theme") {
	case "dark":
		mode = ` data-darkmode="true"`
	case "material":
		theme = "material"
	default:
		mode = ` data-darkmode="false"`
	}
	s.mu.Lock()
	env, _ := json.Marshal(table{
		"media": "/luci-static/" + theme, "resource": "/luci-static/resources", "scriptname": "/cgi-bin/luci", "pathinfo": "/" + at,
		"documentroot": "/www", "requestpath": strings.Split(at, "/"), "dispatchpath": strings.Split(at, "/"), "pollinterval": 5, "ubuspath": "/ubus/",
		"sessionid": strings.Repeat("0", 31) + "1", "token": "t", "nodespec": table{"title": "Multipath", "satisfied": true, "readonly": s.reader},
		"apply_rollback": 90, "apply_holdoff": 1, "apply_timeout": 5, "apply_display": 1.5,
	})
	s.mu.Unlock()
	shell, phone := shells[theme], ""
	if theme == "bootstrap" {
		phone = `<link rel="stylesheet" media="only screen and (max-device-width: 854px)" href="/luci-static/bootstrap/mobile.css">`
	}
	fmt.Fprintf(w, `<!DOCTYPE html><html lang="%s"%s><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>OpenWrt | Multipath</title><link rel="stylesheet" href="/luci-static/%s/cascade.css">%s
<script src="/cgi-bin/luci/admin/translations/%s"></script><script src="/luci-static/resources/cbi.js"></script></head>
<body class="lang_en logged-in" data-page="%s">%s
<script src="/luci-static/resources/luci.js"></script><script>L = new LuCI(%s);</script>
<div id="view"><div class="spinning">Loading view…</div><script>L.require('ui').then(function(ui) { ui.instantiateView('%s'); });</script></div>%s
<script>L.require('menu-%s')</script></body></html>`, lang, mode, theme, phone, lang, strings.ReplaceAll(at, "/", "-"), shell[0], env, view, shell[1], theme)
}

// shells are what themes put around a page: ids and classes that their style
// sheets and menus go by.
var shells = map[string][2]string{
	"bootstrap": {`<header><a class="brand" href="/">OpenWrt</a><ul class="nav" id="topmenu" style="display:none"></ul><div id="indicators" class="pull-right"></div></header>
<div id="maincontent" class="container"><div id="tabmenu" style="display:none"></div>`, `</div><footer><span>LuCI</span><ul class="breadcrumb pull-right" id="modemenu" style="display:none"></ul></footer>`},
	"material": {`<header><div class="fill"><div class="container"><span class="showSide"></span><a id="logo" href="#"><img src="/luci-static/material/brand.png" alt="OpenWrt"></a>
<a class="brand" href="#">OpenWrt</a><span class="status" id="indicators"></span></div></div></header>
<div class="main"><div class="loading"></div><div class="main-left" id="mainmenu" style="display:none"></div><div class="main-right">
<div class="modemenu-buttons" style="display:none"><ul id="modemenu"></ul></div><div class="darkMask"></div><div id="maincontent"><div class="container"><div id="tabmenu" style="display:none"></div>`,
		`</div></div></div></div>`},
}

const menu = `{"title":"","children":{"admin":{"title":"Administration","order":10,"satisfied":true,"action":{"type":"firstchild"},"children":{
"status":{"title":"Status","order":10,"satisfied":true,"action":{"type":"firstchild"},"children":{
"overview":{"title":"Overview","order":1,"satisfied":true,"action":{"type":"view","path":"status/index"}},
"braid":{"title":"Multipath","order":25,"satisfied":true,"action":{"type":"view","path":"braid/status"}}}},
"network":{"title":"Network","order":50,"satisfied":true,"action":{"type":"firstchild"},"children":{
"braid":{"title":"Multipath","order":45,"satisfied":true,"action":{"type":"view","path":"braid/settings"}}}}}}}}`

// translations are what LuCI makes of the .lmo files.
func (s *server) translations(w http.ResponseWriter, lang string) {
	tr := make(map[string]string)
	if lang == "de" {
		for hash, text := range s.de {
			tr[fmt.Sprintf("%08x", hash)] = text
		}
	}
	b, _ := json.Marshal(tr)
	w.Header().Set("Content-Type", "application/javascript")
	fmt.Fprintf(w, "window.TR=%s;", b)
}

func (s *server) apply(w http.ResponseWriter, how string) {
	switch how {
	case "apply_rollback", "apply_unchecked":
		if err := s.uci.commit(); err != nil {
			s.t.Error(err)
		}
		s.call("braid", "reload", table{})
		s.applied <- how
		w.WriteHeader(map[string]int{"apply_rollback": 200, "apply_unchecked": 204}[how])
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// rpcMessage is a call as uhttpd-mod-ubus takes it, alone or in a list.
type rpcMessage struct {
	ID     any               `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

func (s *server) rpc(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.change(func() { s.requests++ })
	var list []rpcMessage
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
		err = json.Unmarshal(body, &list)
	} else {
		list = make([]rpcMessage, 1)
		err = json.Unmarshal(body, &list[0])
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answers := make([]table, len(list))
	for i, m := range list {
		answers[i] = s.answer(m)
		answers[i]["jsonrpc"], answers[i]["id"] = "2.0", m.ID
	}
	w.Header().Set("Content-Type", "application/json")
	if body[0] == '[' {
		json.NewEncoder(w).Encode(answers)
	} else {
		json.NewEncoder(w).Encode(answers[0])
	}
}

// failure is an error of uhttpd-mod-ubus.
func failure(code int, text string) table {
	return table{"error": table{"code": code, "message": text}}
}

func (s *server) answer(m rpcMessage) table {
	if m.Method != "call" || len(m.Params) < 3 {
		return table{"result": table{}}
	}
	var object, method string
	args := table{}
	err := errors.Join(json.Unmarshal(m.Params[1], &object), json.Unmarshal(m.Params[2], &method))
	if len(m.Params) > 3 {
		d := json.NewDecoder(bytes.NewReader(m.Params[3]))
		d.UseNumber()
		err = errors.Join(err, d.Decode(&args))
	}
	if err != nil {
		return table{"error": table{"code": -32602, "message": "Invalid parameters"}}
	}
	s.change(func() {
		s.calls[object+" "+method]++
		if config, ok := args["config"]; ok {
			s.calls[fmt.Sprintf("%s %s %v", object, method, config)]++
		}
	})
	if !s.allowed(object, method, args["config"]) {
		return failure(-32002, "Access denied")
	}
	code, answer := s.call(object, method, args)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case code < 0:
		return failure(-32000, "Object not found")
	case code > 0:
		return table{"result": []any{code}}
	case answer == nil:
		return table{"result": []any{0}}
	}
	if s.distort != nil && object == "braid" {
		answer = s.distort(method, answer)
	}
	return table{"result": []any{0, answer}}
}

// allowed goes by the page's own rules of access, as rpcd would; what LuCI
// needs for itself is free.
func (s *server) allowed(object, method string, config any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.acl["luci-app-braid"]
	switch {
	case object == "braid":
		return slices.Contains(g.Read.Ubus["braid"], method) || !s.reader && slices.Contains(g.Write.Ubus["braid"], method)
	case object == "uci" && s.reader:
		return method == "changes" || config == "luci"
	case object == "network.interface":
		return !s.reader && slices.Contains(g.Write.Ubus[object], method)
	}
	return true
}

// call calls a method; a negative code is that there is no such object.
func (s *server) call(object, method string, args table) (code int, answer any) {
	switch object {
	case "uci":
		if a, ok := s.uci.call(method, numbers(args).(table)); ok {
			return 0, a
		}
		return int(ubus.ErrNotFound), nil
	case "session":
		return 0, table{"access": true}
	case "luci":
		return 0, table{}
	case "file":
		if method == "list" && strings.HasSuffix(fmt.Sprint(args["path"]), "include") {
			return 0, table{"entries": []any{table{"name": "45_braid.js", "type": "file"}}}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if method == "list" || s.missing {
			return int(ubus.ErrNotFound), nil
		}
		return 0, table{"path": args["path"], "type": "file"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	c, err := ubus.Dial(ctx, s.socket)
	if err != nil {
		if ctx.Err() != nil {
			return int(ubus.ErrTimeout), nil
		}
		return -1, nil
	}
	defer c.Close()
	if _, err := c.Lookup(ctx, object); errors.Is(err, ubus.ErrNotFound) {
		return -1, nil
	}
	err = c.Call(ctx, object, method, numbers(args), &answer)
	var status ubus.Status
	switch {
	case errors.As(err, &status):
		return int(status), nil
	case err != nil:
		return int(ubus.ErrTimeout), nil
	}
	return 0, answer
}

// numbers puts integers in the place of JSON's numbers.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return n
	case table:
		out := table{}
		for k, item := range v {
			if item != nil {
				out[k] = numbers(item)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = numbers(item)
		}
		return out
	}
	return v
}
