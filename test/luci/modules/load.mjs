// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// load runs a module of the page as LuCI does: its text is the body of a
// function, whose parameters are what it requires.

import { readFileSync } from 'node:fs';

const resources = new URL('../../../luci/htdocs/luci-static/resources/', import.meta.url);
const loaded = new Map();

String.prototype.format = function(...args) {
	return this.replace(/%[ds]/g, () => String(args.shift()));
};

export function load(name, given = {}) {
	if (name in given)
		return given[name];
	if (name == 'baseclass')
		return { extend: o => o };
	if (loaded.has(name))
		return loaded.get(name);
	const text = readFileSync(new URL(name.replaceAll('.', '/') + '.js', resources), 'utf8');
	const wants = [ ...text.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm) ].map(m => [ m[1], m[2] ?? m[1].split('.').pop() ]);
	const body = new Function('_', ...wants.map(w => w[1]), text);
	const made = body(s => s, ...wants.map(w => load(w[0], given)));
	loaded.set(name, made);
	return made;
}
