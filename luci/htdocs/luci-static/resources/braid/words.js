// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require braid.format as format';

// What the agent says in its own short words, said to people. Pure.

const duties = {
	primary: _('Carries first: connections begin here.'),
	bond: _('Always carries its share.'),
	overflow: _('Carries while the lines above it are full.'),
	backup: _('Carries when nothing above it works.'),
	off: _('Is never used.')
};

const states = {
	up: _('works'), degraded: _('works in part'), down: _('does not work'), off: _('switched off'),
	full: _('is full'), refused: _('refuses this router'), unknown: _('not known yet')
};

const ipv4 = {
	public: _('public IPv4'), private: _('private IPv4, behind another router'),
	shared: _('shared IPv4, behind the carrier\'s NAT'), none: _('no IPv4')
};

const paths = {
	auto: _('automatic'), convert: _('through the converter'), direct: _('straight to the server'), pass: _('plain forwarding'), reject: _('refused')
};

const peers = {
	converter: _('the converter'), server: _('the server'), mcp: _('the converter on the path'),
	'server or mcp': _('the server, or a converter on the path'), lent: _('an address lent on the path')
};

const types = { wan: _('Line'), converter: _('Converter'), config: _('Configuration'), modem: _('Modem'), quota: _('Quota') };

function of(table, word) {
	return Object.prototype.hasOwnProperty.call(table, word) ? table[word] : word;
}

// reason translates words of the agent as they are, see po/reasons.js.
function reason(text) { return text ? _(text) : ''; }

return baseclass.extend({
	roles: Object.keys(duties),
	role: reason,
	duty: word => of(duties, word),
	kind: reason,
	reason,
	state: word => of(states, word),
	ipv4: word => of(ipv4, word),
	peer: word => of(peers, word),
	path: word => of(paths, word),
	type: word => of(types, word),

	// why says in a sentence what a WAN does and, if that is not what was
	// configured, why not.
	why(w) {
		const why = reason(w.reason), duty = this.duty(w.effective_role);
		if (w.state == 'up' || w.state == 'degraded')
			return why ? duty + ' (' + why + ')' : duty;
		return why ? _('Not used: %s').format(why) : w.state == 'off' ? duties.off : _('Does not work.');
	},

	// headline says how all fares: a state for the colour, and a sentence.
	headline(s) {
		const total = s.wans.filter(w => w.effective_role != 'off').length;
		const good = s.wans.filter(w => w.state == 'up' || w.state == 'degraded').length;
		const asked = s.converters.filter(c => c.address);
		const answers = asked.length == 0 || asked.some(c => c.state == 'up' || c.state == 'full');
		if (s.state == 'disabled')
			return [ 'off', s.wans.length ? _('braid is switched off: traffic takes the ordinary default route.') : _('Nothing is set up yet.') ];
		if (s.state == 'down')
			return [ 'down', _('No line works.') ];
		if (!answers)
			return [ 'degraded', _('No converter answers: connections run over one line each.') ];
		if (good < total)
			return [ 'degraded', _('%s of %s lines work.').format(good, total) ];
		if (s.state == 'degraded')
			return [ 'degraded', _('All lines are used, and not all is well.') ];
		return [ 'up', total == 1 ? _('The one line works.') : _('All %s lines work.').format(total) ];
	},

	// event is what happened, in a sentence.
	event(e) {
		const why = e.reason ? ': ' + reason(e.reason) : '';
		if (e.type == 'config')
			return (e.to == 'refused' ? _('refused, the last good one stays in force') : _('read')) + (e.name ? ' (' + e.name + ')' : '') + why;
		if (e.type == 'quota')
			return e.name + ': ' + _('%s of the quota is used').format(format.percent(e.to / 100));
		return e.name + (e.to ? ' ' + (e.type == 'modem' ? reason(e.to) : of(states, e.to)) : '') + why;
	}
});
