// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// languages are what LuCI calls those into which pages are translated.
var languages = map[string]string{"de": "Deutsch (German)"}

// Web is the part of a page's package that browsers load, by its path below
// /www, minified as it is shipped.
func Web(dir string) (Tree, error) {
	t, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	for name, f := range t {
		switch path.Ext(name) {
		case ".js":
			if f.Data, err = Minify(f.Data); err != nil {
				return nil, fmt.Errorf("minifying %s: %w", name, err)
			}
		case ".css":
			f.Data = MinifyCSS(f.Data)
		}
		t[name] = f
	}
	return t, nil
}

func (b Build) addWeb(project string, t Tree) error {
	if b.Web == "" {
		return nil
	}
	web, err := Web(filepath.Join(project, b.Web))
	if err != nil {
		return err
	}
	for name, f := range web {
		t[path.Join("www", name)] = f
	}
	return nil
}

// addMessages adds a translation as luci.mk does: the texts, and the language's
// name for those who choose one.
func (b Build) addMessages(project string, t Tree) error {
	if b.Messages == "" {
		return nil
	}
	language := filepath.Base(filepath.Dir(b.Messages))
	po, err := os.ReadFile(filepath.Join(project, b.Messages))
	if err != nil {
		return err
	}
	messages, err := ReadPO(string(po))
	if err != nil {
		return fmt.Errorf("reading %s: %w", b.Messages, err)
	}
	lmo, err := messages.LMO()
	if err != nil {
		return fmt.Errorf("translating by %s: %w", b.Messages, err)
	}
	name := strings.TrimSuffix(filepath.Base(b.Messages), ".po")
	t[fmt.Sprintf("usr/lib/lua/luci/i18n/%s.%s.lmo", name, language)] = File{lmo, 0o644}
	script := fmt.Sprintf("uci set luci.languages.%s='%s'; uci commit luci\n", language, languages[language])
	t["etc/uci-defaults/"+b.Name] = File{[]byte(script), 0o644}
	return nil
}
