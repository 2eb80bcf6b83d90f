// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require braid.dom as dom';
'require braid.format as format';
'require braid.picture as picture';
'require braid.series as series';
'require braid.words as words';

// The parts that pages are made of: each makes nodes of what the agent said.

const el = dom.el, svg = dom.svg;

// colours of lines in graph and picture, by their order.
const colours = [ '#3d85d8', '#e0861a', '#2f9e6e', '#a566c8', '#12a0b5', '#c2527d' ];

function colour(i) { return colours[i % colours.length]; }

function dot(state) { return el('span', { class: 'bd-dot bd-' + state }); }

function rates(w) {
	return el('span.bd-rates', [
		el('span', { title: _('received') }, [ '↓ ', format.rate(w.rx_rate) ]), ' ',
		el('span', { title: _('sent') }, [ '↑ ', format.rate(w.tx_rate) ])
	]);
}

function fact(name, value) {
	return value == null || value === '' ? null : [ el('dt', [ name ]), el('dd', [ value ]) ];
}

// level is the state of what has been used up to that part.
function level(part) { return part >= 1 ? 'down' : part >= 0.8 ? 'degraded' : 'up'; }

function bar(part, text) {
	return el('div.bd-bar', { role: 'img', 'aria-label': text }, [
		el('span', { class: 'bd-' + level(part), style: 'width:' + Math.round(100 * Math.min(1, part)) + '%' }), el('em', [ text ])
	]);
}

function box(key, kind, children) {
	return el('div', { class: 'bd-box bd-box-' + kind, 'data-key': key }, children);
}

// cellular lists what the modem tells, if there is one that does.
function cellular(c) {
	if (!c || !(c.operator || c.technology || c.signal || c.registration || c.lock || c.failure))
		return null;
	const db = (v, unit) => v ? v.toFixed(0).replace('-', '−') + ' ' + unit : null;
	return [
		fact(_('Operator'), [ c.operator || '–', c.roaming ? ' (' + _('roaming') + ')' : '' ]),
		fact(_('Technology'), c.technology),
		c.signal ? fact(_('Signal'), bar(c.signal / 100 < 0.8 ? c.signal / 100 : 0.79, c.signal + ' %')) : null,
		fact(_('Radio'), [ db(c.rsrp, 'dBm RSRP'), db(c.rsrq, 'dB RSRQ'), db(c.sinr, 'dB SINR') ].filter(v => v).join(', ')),
		fact(_('Registration'), words.reason(c.registration)),
		c.lock && c.lock != 'none' ? fact(_('Lock'), c.lock) : null,
		fact(_('Failure'), c.failure),
		fact(_('Modem'), c.model)
	];
}

// legs tells of each family by itself, where the agent does.
function legs(list) {
	if (!list || !list.length)
		return null;
	return el('ul.bd-legs', list.map(leg => el('li', [
		dot(leg.state), leg.family, leg.origin == 'native' ? ' ' : ' ' + leg.origin + ' ', el('samp', [ leg.source || '–' ]), leg.gateway ? [ ' → ', el('samp', [ leg.gateway ]) ] : null, leg.mtu && leg.mtu < 1500 ? ' MTU ' + leg.mtu : '',
		leg.reason ? [ ': ', words.reason(leg.reason) ] : null,
		(leg.converters || []).map(c => [ ' ', el('span.bd-chip', [ dot(c.state), c.name, c.rtt_ms ? ' ' + format.ms(c.rtt_ms) : '' ]) ])
	])));
}

function quota(q) {
	if (!q || !q.limit)
		return null;
	const text = _('%s of %s').format(format.bytes(q.used), format.bytes(q.limit));
	return [ fact(_('Quota'), bar(q.used / q.limit, text)), q.resets ? fact(_('Counts anew in'), format.span(q.resets)) : null ];
}

return baseclass.extend({
	colour,
	dot,

	// style has the pages' look loaded once.
	style() {
		if (!document.getElementById('bd-style'))
			document.head.appendChild(el('link', { id: 'bd-style', rel: 'stylesheet', href: L.resource('braid/style.css') }));
	},

	// boxes are those of the picture.
	boxes(s) {
		const converters = picture.converters(s), straight = picture.straight(s);
		return [
			box('lan', 'end', [ el('b', [ _('LAN') ]), el('small', [ _('%s connections').format(s.connections.open), s.connections.extended ? ', ' + _('%s of hosts extended').format(s.connections.extended) : '' ]) ]),
			box('gateway', 'end', [ el('b', [ _('Router') ]), el('small', [ s.kernel.mptcp ? _('Multipath TCP') : _('no Multipath TCP') ]) ]),
			el('div.bd-column', { 'data-key': 'wans' }, [ s.wans.length ? s.wans.map((w, i) => box('wan:' + w.name, 'wan', [
				el('div.bd-row', [ dot(w.state), el('b', [ w.name ]), el('span.bd-chip', { style: 'border-color:' + colour(i) }, [ words.role(w.effective_role) ]) ]),
				rates(w), el('small', [ words.why(w) ])
			])) : box('nothing', 'wan', [ el('small', [ _('no line') ]) ]) ]),
			converters.length ? el('div.bd-column', { 'data-key': 'converters' }, converters.map(c => box('converter:' + c.name, 'converter', [
				el('div.bd-row', [ dot(c.state), el('b', [ c.name ]) ]),
				el('small', [ _('Converter'), ', ', c.wan ? _('on the path of %s').format(c.wan) : words.state(c.state), c.rtt_ms ? ', ' + format.ms(c.rtt_ms) : '' ])
			]))) : null,
			box('internet', 'end', [ el('b', [ _('Internet') ]),
				converters.some(c => !c.wan) ? el('small', [ straight > 0 ? _('%s went straight, past the converter').format(format.percent(straight)) : _('all by the converter') ]) : null ])
		];
	},

	// wires are the lines of the picture as a drawing of that size.
	wires(wires, width, height) {
		return svg('svg', { width, height, 'aria-hidden': 'true', 'data-key': 'wires' }, wires.map(w =>
			[ svg('path', { 'data-key': w.key, d: w.d, 'stroke-width': w.width, class: 'bd-wire bd-' + w.state }),
				w.moving && w.state != 'down' ? svg('path', { 'data-key': w.key + '~', d: w.d, 'stroke-width': w.width / 3, class: 'bd-pulse' }) : null ]));
	},

	// card is all about one WAN. may: whether its buttons can be used.
	card(w, i, may) {
		const key = w.name;
		return el('div.bd-card', { 'data-key': key, style: 'border-top-color:' + colour(i) }, [
			el('div.bd-row', [ dot(w.state), el('b', [ w.name ]), el('span', [ words.state(w.state) ]),
				el('small', [ _('for %s').format(format.span(w.since)) ]) ]),
			el('p.bd-why', [ words.why(w) ]),
			el('div.bd-big', [ rates(w) ]),
			el('dl.bd-facts', [
				fact(_('Role'), w.role == w.effective_role ? words.role(w.role) : _('%s, configured %s').format(words.role(w.effective_role), words.role(w.role))),
				fact(_('Kind'), [ words.kind(w.kind), w.interface || w.device ? ' (' + [ w.interface, w.device ].filter(v => v).join(', ') + ')' : '' ]),
				fact(_('Reached by'), [ words.ipv4(w.ipv4), ', ', w.ipv6 ? _('IPv6') : _('no IPv6'), w.nat64 ? ', ' + _('IPv4 through NAT64') : '' ]),
				fact(_('Addresses'), w.addresses.length ? w.addresses.map(a => el('samp', [ a ])) : '–'),
				fact(_('Round trip'), [ format.ms(w.rtt_ms), w.jitter_ms ? ' ± ' + format.ms(w.jitter_ms) : '' ]),
				fact(_('Probes lost'), format.percent(w.loss)),
				fact(_('Subflows'), String(w.subflows)),
				fact(_('Carried'), '↓ ' + format.bytes(w.rx_bytes) + '  ↑ ' + format.bytes(w.tx_bytes)),
				w.kind == 'cellular' ? cellular(w.cellular) : null,
				quota(w.quota)
			]),
			legs(w.legs),
			may ? el('div.bd-row bd-actions', [
				el('button.cbi-button', { 'data-do': 'probe', 'data-wan': w.name }, [ _('Probe now') ]),
				el('label', [ _('Use as'), ' ', el('select.cbi-input-select', { 'data-do': 'role', 'data-wan': w.name, 'data-value': w.effective_role, title: _('until the configuration is read again') },
					words.roles.map(r => el('option', { value: r, selected: r == w.effective_role }, [ words.role(r) ]))) ])
			]) : null
		]);
	},

	// graph draws what WANs carried: received above the axis, sent below it.
	graph(all, wans, span, width) {
		const names = wans.map(w => w.name), half = 120, left = 76, w = Math.max(100, width - left - 8);
		const slots = Math.max(2, Math.round(span / all.step));
		const top = series.ceiling(Math.max(series.peak(all, names, 'rx'), series.peak(all, names, 'tx') * 2, 100000));
		const bands = (kind, height, top) => series.stack(all, names, kind, w, height, slots, top)
			.map((b, i) => svg('path', { d: b.path, fill: colour(i), class: 'bd-band' }, [ svg('title', {}, [ b.name ]) ]));
		const rule = (y, text) => [
			svg('line', { x1: left, x2: left + w, y1: y, y2: y, class: 'bd-rule' }),
			svg('text', { x: left - 6, y: y + 4, 'text-anchor': 'end' }, [ text ])
		];
		const at = [ 0, 0.25, 0.5, 0.75, 1 ].filter((v, i) => width > 600 || i % 2 == 0);
		return svg('svg', { viewBox: '0 0 ' + width + ' 222', width, height: 222, class: 'bd-graph', role: 'img', 'aria-label': _('Rates of all lines') }, [
			rule(10, format.rate(top)), rule(10 + half / 2, format.rate(top / 2)), rule(10 + half, '0'), rule(10 + half * 1.5, format.rate(top / 2)),
			svg('g', { transform: 'translate(' + left + ',10)' }, bands('rx', half, top)),
			svg('g', { transform: 'translate(' + left + ',' + (10 + half) + ') scale(1,-1) translate(0,-60)' }, bands('tx', half / 2, top / 2)),
			svg('text', { x: left + 6, y: 24, class: 'bd-side' }, [ '↓ ', _('received') ]),
			svg('text', { x: left + 6, y: 10 + half * 1.5 - 4, class: 'bd-side' }, [ '↑ ', _('sent') ]),
			at.map(v => svg('text', { x: left + w * v, y: 216, 'text-anchor': v == 0 ? 'start' : v == 1 ? 'end' : 'middle' }, [ v == 1 ? _('now') : '−' + format.span(span * (1 - v)) ]))
		]);
	},

	// legend names the colours.
	legend(wans) {
		return wans.map((w, i) => el('span', { 'data-key': w.name, class: 'bd-legend' }, [ el('i', { style: 'background:' + colour(i) }), w.name, ' ', rates(w) ]));
	},

	// problems are what the agent complains of.
	problems(list) {
		return list.map(p => el('div.alert-message warning', [
			p.section ? [ el('b', [ p.section, p.option ? '.' + p.option : '' ]), ': ' ] : null, words.reason(p.message) ]));
	},

	// connections is the table of a page of connections; open says which are
	// unfolded.
	connections(list, open) {
		const head = [ _('From'), _('To'), _('Path'), _('Lines'), _('Received'), _('Sent'), _('Age') ];
		const cell = (i, children) => el('td.td', { 'data-title': head[i] }, children);
		return el('table.table bd-table', [
			el('thead', [ el('tr.tr table-titles', [ '' ].concat(head).map(t => el('th.th', [ t ]))) ]),
			el('tbody', [ list.length ? list.map(c => {
				const unfolded = open[c.id], lines = [];
				for (const f of c.subflows)
					if (!lines.includes(f.wan))
						lines.push(f.wan);
				return [
					el('tr.tr', { 'data-key': c.id }, [
						el('td.td', [ el('button.bd-fold', { 'data-do': 'fold', 'data-id': c.id, 'aria-expanded': unfolded ? 'true' : 'false', title: _('Subflows') }, [ unfolded ? '▾' : '▸' ]) ]),
						cell(0, [ c.src ]), cell(1, [ c.dst ]),
						cell(2, [ words.path(c.path), c.converter ? ' ' + c.converter : '', c.mptcp ? '' : ', ' + _('plain TCP') ]),
						cell(3, [ lines.join(', ') || '–' ]), cell(4, [ format.bytes(c.rx) ]), cell(5, [ format.bytes(c.tx) ]), cell(6, [ format.span(c.age) ])
					]),
					unfolded ? el('tr.tr bd-unfolded', { 'data-key': 'of' + c.id }, [ el('td.td', { colspan: 8 }, [
						el('ul', [ c.subflows.length ? c.subflows.map(f => el('li', [ el('b', [ f.wan || '?' ]), ' ', el('samp', [ f.local ]), ' → ', el('samp', [ f.remote ]), ', ', format.ms(f.rtt_ms), ', ↓ ', format.bytes(f.rx), ' ↑ ', format.bytes(f.tx), f.backup ? ', ' + _('held back') : '' ])) : el('li', [ _('none') ]) ]) ]) ]) : null
				];
			}) : el('tr.tr', [ el('td.td', { colspan: 8 }, [ _('No connection.') ]) ]) ])
		]);
	},

	// events lists what happened, the last first.
	events(list, now) {
		return list.length ? list.slice().reverse().map(e => el('li', { 'data-key': e.number }, [
			el('time', [ _('%s ago').format(format.span(e.age + now)) ]), dot(e.type == 'quota' ? level(e.to / 100) : e.to),
			el('span', [ el('small', [ words.type(e.type), ' ' ]), words.event(e) ])
		])) : [ el('li', [ _('Nothing has happened yet.') ]) ];
	},

	// explanation says which way a connection would take.
	explanation(e) {
		return [
			el('p', [ el('b', [ words.path(e.path) ]), ': ', words.reason(e.reason), e.rule ? ' (' + _('rule') + ' ' + e.rule + ')' : '', e.address ? [ ' ', el('samp', [ e.address ]) ] : null ]),
			e.subflows.length ? el('ul', e.subflows.map(f => el('li', [ el('b', [ f.wan ]), ' ', f.family, ' → ', el('samp', [ f.remote == 'announced' ? _('an address that is announced') : f.remote ]), f.peer ? ' (' + words.peer(f.peer) + ')' : '' ]))) : null
		];
	}
});
