// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require rpc';

// The configuration as it would be: what was loaded, with what has been changed
// here, until it is saved.

const call = (method, params, expect) => rpc.declare({ object: 'uci', method: method, params: params, expect: expect, reject: true });
const get = call('get', [ 'config' ], { values: {} }), change = call('set', [ 'config', 'section', 'values' ]);
const create = call('add', [ 'config', 'type', 'name', 'values' ]), remove = call('delete', [ 'config', 'section', 'options' ]), order = call('order', [ 'config', 'sections' ]);

let packages = {}, before = {};

return {
	load(name) {
		if (packages[name])
			return Promise.resolve();
		return get(name).then(values => {
			packages[name] = Object.values(values).sort((a, b) => a['.index'] - b['.index']);
			before[name] = structuredClone(packages[name]);
		});
	},
	unload(name) { delete packages[name]; },
	sections(name, type) { return (packages[name] || []).filter(s => !type || s['.type'] == type).map(s => Object.assign({}, s)); },
	get(name, id, option) {
		const s = (packages[name] || []).find(v => v['.name'] == id);
		return s && option ? s[option] : s || null;
	},
	set(name, id, option, value) {
		const s = packages[name].find(v => v['.name'] == id);
		if (value === null || value === undefined || value === '' || Array.isArray(value) && !value.length)
			delete s[option];
		else
			s[option] = value;
	},
	add(name, type, id) {
		packages[name].push({ '.type': type, '.name': id, '.anonymous': !id });
		return id;
	},
	remove(name, id) { packages[name] = packages[name].filter(s => s['.name'] != id); },
	changes: rpc.declare({ object: 'uci', method: 'changes', expect: { changes: {} } }),

	save() {
		const tasks = [];
		for (const name in packages) {
			const was = before[name], is = packages[name];
			for (const s of was)
				if (!is.some(v => v['.name'] == s['.name']))
					tasks.push(() => remove(name, s['.name']));
			for (const s of is) {
				const old = was.find(v => v['.name'] == s['.name']), values = {}, gone = [];
				for (const k in s)
					if (k[0] != '.' && (!old || JSON.stringify(old[k]) != JSON.stringify(s[k])))
						values[k] = s[k];
				for (const k in old || {})
					if (!(k in s))
						gone.push(k);
				if (!old)
					tasks.push(() => create(name, s['.type'], s['.name'], values));
				else if (Object.keys(values).length)
					tasks.push(() => change(name, s['.name'], values));
				if (gone.length)
					tasks.push(() => remove(name, s['.name'], gone));
			}
			const names = list => list.map(s => s['.name']).join();
			if (names(was) != names(is) && is.length == was.length)
				tasks.push(() => order(name, is.map(s => s['.name'])));
		}
		return tasks.reduce((done, task) => done.then(task), Promise.resolve()).then(() => {
			for (const name in packages)
				before[name] = structuredClone(packages[name]);
		});
	}
};
