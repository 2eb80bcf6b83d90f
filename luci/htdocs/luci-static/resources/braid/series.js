// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// Series of rates and their drawing. Pure: no DOM, no clock.

// smooth is a line through points with level tangents, which never goes beyond
// the values that it connects.
function smooth(points) {
	return points.map((p, i) => {
		if (i == 0)
			return p[0] + ',' + p[1];
		const q = points[i - 1], mid = round((q[0] + p[0]) / 2);
		return 'C' + mid + ',' + q[1] + ' ' + mid + ',' + p[1] + ' ' + p[0] + ',' + p[1];
	}).join('');
}

// carried is a WAN's series of a kind.
function carried(all, name, kind) { return (all.wans[name] || {})[kind] || []; }

function round(v) { return Math.round(v * 10) / 10; }

return baseclass.extend({
	// fromHistory takes the answer of "history".
	fromHistory(h) {
		const all = { step: h.step, size: 0, wans: {} };
		for (const w of h.wans) {
			all.wans[w.name] = { rx: w.rx.slice(), tx: w.tx.slice() };
			all.size = Math.max(all.size, w.rx.length);
		}
		return all;
	},

	// push adds a point of each WAN, seconds after the last one, and drops what
	// is older than span. A WAN that is new carried nothing before.
	push(all, wans, seconds, span) {
		const n = Math.max(1, Math.round(seconds / all.step)), keep = Math.ceil(span / all.step), next = {};
		const size = Math.min(keep, all.size + n);
		for (const w of wans) {
			const old = all.wans[w.name] || { rx: [], tx: [] }, pad = all.size - old.rx.length;
			const grow = (list, v) => new Array(pad).fill(0).concat(list, new Array(n).fill(v)).slice(-size);
			next[w.name] = { rx: grow(old.rx, w.rx_rate), tx: grow(old.tx, w.tx_rate) };
		}
		return { step: all.step, size, wans: next };
	},

	// ceiling is the end of an axis that holds v, 1, 2 or 5 times a power of ten.
	ceiling(v) {
		const p = Math.pow(10, Math.floor(Math.log10(Math.max(v, 1000))));
		return [ 1, 2, 5, 10 ].map(f => f * p).find(f => f >= v);
	},

	// stack lays the bands of WANs upon one another: an SVG path for each name,
	// within a box of that size, the newest at its right edge. slots is how many
	// points the width holds.
	stack(all, names, kind, width, height, slots, top) {
		const base = new Array(all.size).fill(0), x = i => round(width * (slots - all.size + i) / Math.max(1, slots - 1));
		const y = v => round(height - Math.min(1, v / top) * height);
		return names.map(name => {
			const list = carried(all, name, kind), low = base.slice();
			for (let i = 0; i < all.size; i++)
				base[i] += list[i] || 0;
			if (all.size < 2)
				return { name, path: '' };
			const above = base.map((v, i) => [ x(i), y(v) ]), below = low.map((v, i) => [ x(i), y(v) ]).reverse();
			return { name, path: 'M' + smooth(above) + 'L' + smooth(below) + 'Z' };
		});
	},

	// peak is the largest sum over the WANs named.
	peak(all, names, kind) {
		let most = 0;
		for (let i = 0; i < all.size; i++)
			most = Math.max(most, names.reduce((sum, name) => sum + (carried(all, name, kind)[i] || 0), 0));
		return most;
	}
});
