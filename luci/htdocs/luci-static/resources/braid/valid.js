// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// What values options take: the rules of the agent's own configuration reader,
// so that a mistake shows while it is typed. Each check takes a text and
// returns nothing, or what is wrong in words. Pure.

// label is a part of a domain name: neither its first nor its last is a hyphen.
const label = /^(?!-)[a-z\d_-]{0,62}[a-z\d_]$/;

function number(text, low, high) {
	return /^[+-]?\d+$/.test(text) && Number(text) >= low && Number(text) <= high;
}

// bytes4 and bytes6 are the bytes of an address, null if it is none.
function bytes4(text) {
	const fields = text.split('.');
	const fine = f => number(f, 0, 255) && f == String(Number(f));
	return fields.length == 4 && fields.every(fine) ? fields.map(Number) : null;
}

function bytes6(text) {
	if (!/^[\da-f:.]+$/i.test(text))
		return null;
	try {
		const written = new URL('ws://[' + text + ']').hostname.slice(1, -1); // in hex groups, shortened
		const parts = written.split('::').map(half => half ? half.split(':') : []);
		const missing = 8 - parts.reduce((n, half) => n + half.length, 0);
		const groups = parts.length > 1 ? parts[0].concat(new Array(missing).fill('0'), parts[1]) : parts[0];
		return groups.flatMap(g => [ parseInt(g, 16) >> 8, parseInt(g, 16) & 255 ]);
	} catch (e) {
		return null;
	}
}

// parse is an address: its bytes, IPv4 in IPv6 notation as IPv4, and its zone.
function parse(text) {
	const at = text.indexOf('%'), b = bytes4(text) || bytes6(at < 0 ? text : text.slice(0, at));
	if (!b || at == text.length - 1)
		return null;
	const mapped = b.length == 16 && b.slice(0, 10).every(v => v == 0) && b[10] == 255 && b[11] == 255;
	return { bytes: mapped ? b.slice(12) : b, mapped, zone: at < 0 ? '' : text.slice(at + 1) };
}

function address(text) {
	const a = parse(text);
	if (!a || a.zone && !a.mapped)
		return _('Not an IP address.');
	const b = a.bytes;
	if (b.every(v => v == 0) || b.every(v => v == 255) && b.length == 4 || b[0] >= 224 && b[0] < 240 && b.length == 4 || b[0] == 255 && b.length == 16)
		return _('Not the address of one host.');
	return '';
}

function loopback(b) {
	return b.length == 4 ? b[0] == 127 : b.slice(0, 15).every(v => v == 0) && b[15] == 1;
}

function linkLocal(b) {
	return b.length == 4 ? b[0] == 169 && b[1] == 254 : b[0] == 254 && (b[1] & 192) == 128;
}

function remote(text) {
	return address(text) || (loopback(parse(text).bytes) ? _('This is the router itself.') : '');
}

function domain(text) {
	if (text[0] == '.' || text.startsWith('*.'))
		return _('Subdomains are included: begin with the name.');
	let name = text.toLowerCase();
	if (name[name.length - 1] == '.')
		name = name.slice(0, -1);
	const labels = name.split('.'), last = labels.pop();
	const fine = name.length <= 253 && labels.concat(last).every(l => label.test(l)) && !last.includes('_') && /[a-z]/.test(last);
	return fine ? '' : _('Not a domain name.');
}

function host(text) {
	if (!parse(text))
		return domain(text) ? _('Not an IP address or a host name.') : '';
	return address(text) || (linkLocal(parse(text).bytes) ? _('This address reaches one link only.') : '');
}

function prefix(text) {
	const a = parse(text);
	if (a && !a.zone)
		return '';
	const at = text.lastIndexOf('/'), net = at < 0 ? null : parse(text.slice(0, at)), bits = text.slice(at + 1);
	if (!net || net.zone || net.mapped || !number(bits, 0, 8 * net.bytes.length) || bits != String(Number(bits)))
		return _('Not an IP address or a prefix.');
	const beyond = net.bytes.some((b, i) => b & 255 >> Math.min(8, Math.max(0, bits - 8 * i)));
	return beyond ? _('There are bits beyond the prefix.') : '';
}

function mac(text) {
	return /^([\da-f]{2}[:-]){5}[\da-f]{2}$/i.test(text);
}

function source(text) {
	return mac(text) ? '' : prefix(text) ? _('Not an IP address, a prefix or a MAC address.') : '';
}

function ports(text) {
	const at = text.indexOf('-'), first = at < 0 ? text : text.slice(0, at), last = at < 0 ? text : text.slice(at + 1);
	if (!number(first, 1, 65535) || !number(last, 1, 65535))
		return _('Not a port from 1 to 65535 or a range of them.');
	return Number(first) > Number(last) ? _('The range ends before it begins.') : '';
}

function integer(low, high) {
	return text => number(text, low, high) ? '' : _('Not a number from %d to %d.').format(low, high);
}

// link checks the name of an interface of netifd, or of a device.
function link(most) {
	return text => /^[\w.-]*[\w-][\w.-]*$/.test(text) && text.length <= most ? '' : _('1 to %d letters, digits, _ . and -').format(most);
}

function secret(text) {
	return /^([\da-f]{2}){16,64}$/i.test(text) ? '' : _('An even number of hex digits, 32 to 128.');
}

function modem(text) {
	return /^(auto|\d{15}|\/org\/freedesktop\/ModemManager1\/Modem\/\d+)$/.test(text) ? '' : _('Neither auto nor an IMEI nor a path.');
}

function name(text) {
	return /^\w{1,32}$/.test(text) ? '' : _('1 to 32 letters, digits and _');
}

return baseclass.extend({
	host,
	name,

	// on says what a boolean means; fallback is what one means that is not set.
	on(text, fallback) {
		return /^(1|on|true|yes|enabled)$/.test(text) || !!fallback && !/^(0|off|false|no|disabled)$/.test(text);
	},

	// options are the checks of options that take a text, by type of section.
	options: {
		globals: { lan: link(32) },
		wan: {
			interface: link(32), device: link(15), gateway: remote, weight: integer(1, 1000), rate_down: integer(1, 100000000),
			rate_up: integer(1, 100000000), probe: remote, quota: integer(0, 1000000), quota_day: integer(1, 28), modem
		},
		converter: { address: host, port: integer(1, 65535), srv: domain, key: secret, cookie: secret, priority: integer(0, 65535) },
		rule: { src: source, dest: prefix, domain, dest_port: ports }
	},

	// pairing takes braid://HOST:PORT#SECRET apart; null if it is no such string.
	// The port may be missing, the secret must not. An IPv6 address is in brackets.
	pairing(text) {
		const [ , inner, outer, port = '5124', key = '' ] = /^braid:\/\/(?:\[(.*?)\]|(.*?))(?::([^:#]*))?#([^#]*)$/.exec(text) || [];
		const address = inner || outer || '';
		return host(address) || !number(port, 1, 65535) || secret(key) ? null : { address, port, key };
	}
});
