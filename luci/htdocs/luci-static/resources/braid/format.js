// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// Figures as people read them. Pure: no DOM, no clock.

function fixed(n) {
	return n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
}

function scaled(n, base, units) {
	let i = 0;
	for (; n >= base && i < units.length - 1; i++)
		n /= base;
	return (i ? fixed(n) : n.toFixed(0)) + ' ' + units[i];
}

return baseclass.extend({
	// rate writes bit/s.
	rate(n) { return scaled(n || 0, 1000, [ 'bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s' ]); },

	// bytes writes a number of bytes.
	bytes(n) { return scaled(n || 0, 1000, [ 'B', 'kB', 'MB', 'GB', 'TB' ]); },

	// ms writes milliseconds; 0 is not known.
	ms(n) { return n > 0 ? (n < 10 ? n.toFixed(1) : n.toFixed(0)) + ' ms' : '–'; },

	// percent writes a part of 1.
	percent(part) {
		const p = 100 * (part || 0);
		return (p > 0 && p < 1 ? p.toFixed(1) : p.toFixed(0)) + ' %';
	},

	// span writes seconds by their two largest units.
	span(s) {
		const units = [ [ 86400, 'd' ], [ 3600, 'h' ], [ 60, 'min' ], [ 1, 's' ] ];
		s = Math.max(0, Math.floor(s || 0));
		for (let i = 0; i < units.length; i++) {
			const n = Math.floor(s / units[i][0]);
			if (n == 0 && i < units.length - 1)
				continue;
			const next = units[i + 1], rest = next ? Math.floor(s % units[i][0] / next[0]) : 0;
			return n + ' ' + units[i][1] + (rest ? ' ' + rest + ' ' + next[1] : '');
		}
	}
});
