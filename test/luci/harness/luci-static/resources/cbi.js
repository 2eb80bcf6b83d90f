// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Translations, as LuCI's script of this name looks them up.

'use strict';

function sfh(s) {
	const b = new TextEncoder().encode(s), mul = v => v >>> 0;
	const two = i => b[i] | b[i + 1] << 8, signed = i => b[i] << 24 >> 24;
	let h = b.length, i = 0;
	for (; i + 4 <= b.length; i += 4) {
		h = mul(h + two(i));
		h = mul(h << 16 ^ (two(i + 2) << 11 ^ h));
		h = mul(h + (h >>> 11));
	}
	switch (b.length - i) {
	case 3:
		h = mul(h + two(i));
		h = mul(h ^ h << 16);
		h = mul(h ^ signed(i + 2) << 18);
		h = mul(h + (h >>> 11));
		break;
	case 2:
		h = mul(h + two(i));
		h = mul(h ^ h << 11);
		h = mul(h + (h >>> 17));
		break;
	case 1:
		h = mul(h + signed(i));
		h = mul(h ^ h << 10);
		h = mul(h + (h >>> 1));
	}
	h = mul(h ^ h << 3);
	h = mul(h + (h >>> 5));
	h = mul(h ^ h << 4);
	h = mul(h + (h >>> 17));
	h = mul(h ^ h << 25);
	h = mul(h + (h >>> 6));
	return h.toString(16).padStart(8, '0');
}

function _(s) {
	return window.TR && TR[sfh(String(s).trim().replace(/[ \t\n]+/g, ' '))] || s;
}

String.prototype.format = function(...args) {
	return this.replace(/%[sd]/g, () => String(args.shift()));
};
