// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { load } from './load.mjs';

const format = load('braid.format'), series = load('braid.series'), picture = load('braid.picture'), valid = load('braid.valid');
const words = load('braid.words'), advice = load('braid.advice');

test('figures', () => {
	const rates = [ [ 0, '0 bit/s' ], [ 999, '999 bit/s' ], [ 1000, '1.00 kbit/s' ], [ 12345, '12.3 kbit/s' ], [ 50e6, '50.0 Mbit/s' ], [ 2.5e9, '2.50 Gbit/s' ], [ 123e6, '123 Mbit/s' ] ];
	for (const [ n, want ] of rates)
		assert.equal(format.rate(n), want);
	assert.equal(format.bytes(5e13), '50.0 TB');
	assert.equal(format.bytes(undefined), '0 B');
	for (const [ s, want ] of [ [ 0, '0 s' ], [ 59.9, '59 s' ], [ 60, '1 min' ], [ 61, '1 min 1 s' ], [ 3600, '1 h' ], [ 3700, '1 h 1 min' ], [ 90061, '1 d 1 h' ], [ -5, '0 s' ] ])
		assert.equal(format.span(s), want);
	for (const [ p, want ] of [ [ 0, '0 %' ], [ 0.001, '0.1 %' ], [ 0.05, '5 %' ], [ 1, '100 %' ] ])
		assert.equal(format.percent(p), want);
	assert.equal(format.ms(0), '–');
});

const history = { step: 2, wans: [ { name: 'a', rx: [ 1, 2, 3 ], tx: [ 0, 0, 0 ], rtt: [] }, { name: 'b', rx: [ 10, 20, 30 ], tx: [ 1, 1, 1 ], rtt: [] } ] };
const rate = (name, rx, tx) => ({ name: name, rx_rate: rx, tx_rate: tx });

test('series grow, and forget', () => {
	let s = series.fromHistory(history);
	s = series.push(s, [ rate('b', 40, 2), rate('c', 5, 5) ], 4, 8);
	assert.deepEqual(s, { step: 2, size: 4, wans: { b: { rx: [ 20, 30, 40, 40 ], tx: [ 1, 1, 2, 2 ] }, c: { rx: [ 0, 0, 5, 5 ], tx: [ 0, 0, 5, 5 ] } } });
	assert.equal(series.peak(s, [ 'b', 'c' ], 'rx'), 45);
	assert.equal(series.push({ step: 2, size: 0, wans: {} }, [ rate('a', 1, 1) ], 1, 600).wans.a.rx.length, 1);
});

test('axes end at round figures', () => {
	for (const [ v, want ] of [ [ 0, 1000 ], [ 1001, 2000 ], [ 20e6, 20e6 ], [ 21e6, 50e6 ], [ 60e6, 100e6 ] ])
		assert.equal(series.ceiling(v), want);
});

test('bands lie upon one another and end at the right', () => {
	const bands = series.stack(series.fromHistory(history), [ 'a', 'b' ], 'rx', 100, 50, 5, 50);
	assert.match(bands[0].path, /^M50,49C/);
	assert.match(bands[0].path, /100,47/);
	assert.match(bands[1].path, /100,17/);
	for (const b of bands)
		assert.doesNotMatch(b.path, /NaN|undefined|-/);
	assert.equal(series.stack({ step: 2, size: 1, wans: {} }, [ 'a' ], 'rx', 100, 50, 5, 50)[0].path, '');
});

function wan(name, more) {
	return Object.assign({ name: name, state: 'up', reason: '', role: 'bond', effective_role: 'bond', rx_rate: 10e6, tx_rate: 0 }, more);
}

function status(more) {
	return Object.assign({ state: 'ok', wans: [ wan('a'), wan('b') ], converters: [ { name: 'mcp', address: '192.0.2.10', port: 5124, state: 'up', rtt_ms: 21 },
		{ name: 'mcp', address: '2001:db8::10', port: 5124, state: 'up', rtt_ms: 21 } ], bytes: { rx: 90, tx: 10, direct: 0 }, kernel: { mptcp: true } }, more);
}

const boxes = { lan: { x: 0, y: 40, w: 80, h: 20 }, gateway: { x: 150, y: 40, w: 80, h: 20 }, 'wan:a': { x: 300, y: 0, w: 150, h: 40 },
	'wan:b': { x: 300, y: 60, w: 150, h: 40 }, 'converter:mcp': { x: 520, y: 40, w: 90, h: 20 }, internet: { x: 700, y: 40, w: 80, h: 20 } };

test('wires of the picture', () => {
	const keys = s => picture.wires(boxes, s, false).map(w => w.key);
	assert.deepEqual(keys(status()), [ 'in:a', 'out:a', 'in:b', 'out:b', 'lan', 'far' ]);
	assert.deepEqual(keys(status({ converters: [] })), [ 'in:a', 'straight:a', 'in:b', 'straight:b', 'lan' ]);
	assert.ok(keys(status({ bytes: { rx: 90, tx: 10, direct: 25 } })).includes('straight:a'));
	const down = picture.wires(boxes, status({ wans: [ wan('a', { state: 'down', rx_rate: 0 }), wan('b', { rx_rate: 100e6 }) ] }), true);
	assert.deepEqual(down.filter(w => w.key.endsWith(':a')).map(w => w.state), [ 'down', 'down' ]);
	assert.ok(down.find(w => w.key == 'in:b').width > down.find(w => w.key == 'in:a').width);
	for (const w of down)
		assert.doesNotMatch(w.d, /NaN/);
	assert.deepEqual(picture.wires({}, status({ wans: [] }), false), []);
	assert.equal(picture.converters(status()).length, 1);
	const two = [ { name: 'm', address: 'x', state: 'down' }, { name: 'm', address: 'y', state: 'up' } ];
	assert.deepEqual(picture.converters(status({ converters: two })).map(c => c.address), [ 'y' ]);
	// One on a line's path is on that line, and no other leads to it.
	const on = { name: 'mcp', address: '', wan: 'a', state: 'unknown' };
	assert.deepEqual(keys(status({ converters: [ on ] })), [ 'in:a', 'via:a', 'past:a', 'in:b', 'straight:b', 'lan' ]);
	assert.ok(picture.wires(boxes, status({ converters: [ on ] }), false).every(w => w.state == 'up'));
	assert.equal(picture.straight(status({ bytes: { rx: 90, tx: 10, direct: 25 } })), 0.25);
	assert.equal(picture.straight(status({ bytes: { rx: 0, tx: 0 } })), 0);
});

test('headlines', () => {
	const head = more => words.headline(status(more));
	assert.deepEqual(head(), [ 'up', 'All 2 lines work.' ]);
	assert.deepEqual(head({ wans: [ wan('a') ] }), [ 'up', 'The one line works.' ]);
	assert.deepEqual(head({ wans: [ wan('a'), wan('b', { state: 'down' }) ] }), [ 'degraded', '1 of 2 lines work.' ]);
	assert.equal(head({ converters: [ { name: 'm', address: 'x', state: 'refused' } ] })[0], 'degraded');
	assert.equal(head({ state: 'down' })[0], 'down');
	assert.equal(head({ state: 'disabled', wans: [] })[0], 'off');
});

test('why a line is not used is always said', () => {
	for (const state of [ 'up', 'degraded', 'down', 'off' ])
		for (const role of [ 'primary', 'bond', 'overflow', 'backup', 'off' ])
			for (const reason of [ '', 'some reason' ]) {
				const text = words.why(wan('a', { state: state, effective_role: role, reason: reason }));
				assert.ok(text.length > 5 && text.includes(reason), text);
			}
});

test('events', () => {
	const event = (type, to, reason) => words.event({ type, name: 'lte', from: '', to, reason: reason || '' });
	assert.equal(event('wan', 'down', 'its probes are not answered'), 'lte does not work: its probes are not answered');
	assert.equal(event('converter', 'unknown'), 'lte not known yet');
	assert.equal(event('quota', '80', '80 % of the quota is used'), 'lte: 80 % of the quota is used');
	assert.equal(event('modem', 'locked', 'sim-pin, 3 tries left'), 'lte locked: sim-pin, 3 tries left');
	assert.equal(event('modem', 'unknown'), 'lte unknown');
});

test('pairing strings', () => {
	assert.deepEqual(valid.pairing('braid://mcp.example:5125#00112233445566778899aabbccddeeff'), { address: 'mcp.example', port: '5125', key: '00112233445566778899aabbccddeeff' });
	assert.deepEqual(valid.pairing('braid://192.0.2.1#00112233445566778899AABBCCDDEEFF'), { address: '192.0.2.1', port: '5124', key: '00112233445566778899AABBCCDDEEFF' });
	assert.deepEqual(valid.pairing('braid://[2001:db8::1]:5125#00112233445566778899aabbccddeeff'), { address: '2001:db8::1', port: '5125', key: '00112233445566778899aabbccddeeff' });
	for (const bad of [ '', 'mcp.example', 'braid://', 'braid://mcp.example', 'braid://mcp.example#', 'braid://mcp.example#00ff', 'braid://mcp.example#xy',
		'braid://mcp.example:0#00112233445566778899aabbccddeeff', 'braid://mcp.example:70000#00112233445566778899aabbccddeeff', 'braid://-x-#00112233445566778899aabbccddeeff', 'http://mcp.example#00112233445566778899aabbccddeeff', 'braid://[::1]:5124#00112233445566778899aabbccddeeff x' ])
		assert.equal(valid.pairing(bad), null, bad);
});

test('booleans', () => {
	for (const fallback of [ true, false, undefined ]) {
		for (const text of [ '1', 'on', 'true', 'yes', 'enabled' ])
			assert.equal(valid.on(text, fallback), true, text);
		for (const text of [ '0', 'off', 'false', 'no', 'disabled' ])
			assert.equal(valid.on(text, fallback), false, text);
		assert.equal(valid.on(null, fallback), !!fallback);
	}
});

test('advice', () => {
	const sections = { globals: [ { enabled: '1' } ], wan: [ { '.name': 'a', interface: [ 'wan' ] }, { '.name': 'b', interface: 'wwan' } ], converter: [ {} ], rule: [] };
	const zones = [ { network: [ 'lan' ] }, { network: 'wan wwan' } ], network = { wan: { metric: '10' }, wwan: { metric: '20' } };
	const levels = (...args) => advice.advise(...args).map(a => a.level);
	assert.deepEqual(levels(sections, status(), network, zones), []);
	assert.deepEqual(levels(sections, status({ kernel: { mptcp: false } }), network, zones), [ 'error' ]);
	assert.deepEqual(levels({ ...sections, wan: [] }, null, null, null), [ 'error' ]);
	assert.deepEqual(levels({ ...sections, converter: [] }, null, network, zones), [ 'warning' ]);
	for (const off of [ '0', 'no' ])
		assert.deepEqual(levels({ ...sections, globals: [ { enabled: off } ] }, null, network, zones), [ 'notice' ]);
	assert.deepEqual(levels(sections, null, { wan: {}, wwan: { metric: '0' } }, zones), [ 'warning' ]);
	assert.deepEqual(levels(sections, null, network, [ { network: [ 'wan' ] } ]), [ 'error' ]);
	const dump = [ { interface: 'loopback', l3_device: 'lo' }, { interface: 'lan', l3_device: 'br-lan' }, { interface: 'wan', l3_device: 'eth1' }, { interface: 'wan6', l3_device: 'eth1' },
		{ interface: 'wwan', l3_device: 'wwan0' }, { interface: 'wwan_4', l3_device: 'wwan0', dynamic: true }, { interface: 'off' } ];
	assert.deepEqual(advice.unused(dump, [], [ 'lan' ]).map(i => i.interface), [ 'wan', 'wwan', 'off' ]);
	assert.deepEqual(advice.unused(dump, [ { interface: [ 'wan' ] } ], [ 'lan' ]).map(i => i.interface), [ 'wwan', 'off' ]);
	assert.ok(advice.cellular({ proto: 'qmi' }) && advice.cellular({ proto: 'dhcp', l3_device: 'wwan0' }) && !advice.cellular({ proto: 'dhcp', l3_device: 'eth1' }));
});

// What the agent's reader says of thousands of values, and the page of the same:
// VALUES is a file of {type, option, value, ok}.
test('the page takes what the agent takes', { skip: !process.env.VALUES }, () => {
	const list = JSON.parse(readFileSync(process.env.VALUES, 'utf8'));
	assert.ok(list.length > 1000);
	for (const v of list)
		assert.equal(valid.options[v.type][v.option](v.value) === '', v.ok, `${v.type}.${v.option} ${JSON.stringify(v.value)}: the agent says ${v.ok}`);
});

// What the pages read of an answer, the agent's own types write: ANSWERS is a
// file of answers. What is not among their members throws.
test('the page reads what the agent writes', { skip: !process.env.ANSWERS }, () => {
	const strict = v => typeof v != 'object' || v === null ? v : new Proxy(v, {
		get: (o, key) => {
			if (!(key in o) && key != 'toJSON' && typeof key == 'string' && !Array.isArray(o))
				throw new Error(`no member ${key} in ${JSON.stringify(o).slice(0, 200)}`);
			return typeof o[key] == 'function' ? o[key] : strict(o[key]);
		}
	});
	const answers = JSON.parse(readFileSync(process.env.ANSWERS, 'utf8')), nodes = [];
	const node = (tag, attrs, children) => {
		assert.ok(Array.isArray(children === undefined ? attrs : children) || children === undefined, `children of ${tag}`);
		nodes.push(tag); 
		JSON.stringify([ attrs, children ]);
		return { tag: tag };
	};
	const parts = load('braid.parts', { 'braid.dom': { el: node, svg: node } });
	const s = strict(answers.status), h = series.fromHistory(strict(answers.history));
	words.headline(s);
	parts.boxes(s);
	picture.wires(boxes, s, false);
	s.wans.forEach((w, i) => parts.card(w, i, true));
	parts.graph(series.push(h, s.wans, 2, 600), s.wans, 600, 800);
	parts.legend(s.wans);
	parts.problems(s.problems);
	parts.connections(strict(answers.connections).connections, { 1: true });
	parts.events(strict(answers.events).events, 0);
	parts.explanation(strict(answers.explain));
	assert.ok(nodes.length > 100);
	parts.boxes(status({ wans: [], connections: { open: 0 } }));
	parts.connections([], {});
	parts.events([], 0);
});
