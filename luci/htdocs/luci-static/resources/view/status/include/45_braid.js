// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require braid.agent as agent';
'require braid.dom as dom';
'require braid.format as format';
'require braid.parts as parts';
'require braid.words as words';

const el = dom.el;

// The card of the overview page, which polls for all its cards.
return baseclass.extend({
	title: _('Multipath'),

	load() {
		parts.style();
		if (document.hidden && this.last)
			return Promise.resolve(this.last);
		return agent.status().then(s => this.last = s, err => agent.trouble(err));
	},

	render(s) {
		if (typeof s == 'string')
			return s == 'denied' ? null : el('p', [ _('The agent does not answer.') ]);
		const headline = words.headline(s);
		return el('div.braid', [
			el('div.bd-row', [ parts.dot(headline[0]), el('b', [ headline[1] ]), el('a.bd-age', { href: L.url('admin/status/braid') }, [ _('More') ]) ]),
			el('table.table', s.wans.map(w => el('tr.tr', [
				el('td.td left', { width: '33%' }, [ parts.dot(w.state), w.name, ' ', el('small', [ words.role(w.effective_role) ]) ]),
				el('td.td left', [ '↓ ', format.rate(w.rx_rate), '  ↑ ', format.rate(w.tx_rate), w.rtt_ms ? '  ' + format.ms(w.rtt_ms) : '', el('br'), el('small', [ words.why(w) ]) ])
			])))
		]);
	}
});
