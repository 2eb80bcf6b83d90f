// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require braid.format as format';

// What the agent says in its own short words, said to people. Pure.

const roles = {
	primary: _('primary'), bond: _('bond'), overflow: _('overflow'), backup: _('backup'), off: _('off')
};

const duties = {
	primary: _('Carries first: connections begin here.'),
	bond: _('Always carries its share.'),
	overflow: _('Carries while the lines above it are full.'),
	backup: _('Carries when nothing above it works.'),
	off: _('Is never used.')
};

const states = {
	up: _('works'), degraded: _('works in part'), down: _('does not work'), off: _('switched off'),
	full: _('is full'), refused: _('refuses this router'), unknown: _('not asked yet')
};

const ipv4 = {
	public: _('public IPv4'), private: _('private IPv4, behind another router'),
	shared: _('shared IPv4, behind the carrier\'s NAT'), none: _('no IPv4')
};

const paths = {
	convert: _('through the converter'), direct: _('straight to the server'), pass: _('plain forwarding'), reject: _('refused')
};

const types = { wan: _('Line'), converter: _('Converter'), config: _('Configuration'), modem: _('Modem'), quota: _('Quota') };

// Whole reasons of the agent; others, which hold names and figures, stay as
// they are.
const reasons = {
	'switched off': _('switched off'),
	'set until the next reload': _('set by hand until the configuration is read again'),
	'stands in for the primary': _('stands in for the primary'),
	'on trial': _('on trial: it stays if the sum grows'),
	'there is room on the WANs above it': _('there is room on the lines above it'),
	'its round trip is much longer than the others\', on trial when they are full':
		_('its round trip is much longer than the others\'; it is tried when they are full'),
	'no WAN\'s probes are answered': _('no line\'s probes are answered, so the fault may be elsewhere'),
	'probes are not answered': _('probes are not answered'),
	'a rule says so': _('a rule says so'),
	'it is not known yet whether the server speaks MPTCP': _('it is not known yet whether the server speaks MPTCP'),
	'the server does not speak MPTCP': _('the server does not speak MPTCP'),
	'the server speaks MPTCP, and every WAN reaches it': _('the server speaks MPTCP, and every line reaches it'),
	'the server speaks MPTCP, but takes no second subflow': _('the server speaks MPTCP, but takes no second subflow'),
	'no converter is configured': _('no converter is configured'),
	'no converter answers': _('no converter answers'),
	'only TCP is intercepted': _('only TCP is intercepted'),
	'nothing is intercepted now': _('nothing is intercepted now'),
	'the destination is in the LAN': _('the destination is in the LAN'),
	'the destination is a converter': _('the destination is a converter')
};

const kinds = { fixed: _('fixed line'), cellular: _('cellular') };

function of(table, word) {
	return Object.prototype.hasOwnProperty.call(table, word) ? table[word] : word;
}

return baseclass.extend({
	role: word => of(roles, word),
	roles: roles,
	state: word => of(states, word),
	ipv4: word => of(ipv4, word),
	path: word => of(paths, word),
	type: word => of(types, word),
	kind: word => of(kinds, word),
	reason: text => of(reasons, text),

	// why says in a sentence what a WAN does and, if that is not what was
	// configured, why not.
	why: function(w) {
		const reason = w.reason ? of(reasons, w.reason) : '';
		if (w.state == 'off')
			return reason ? _('Not used: %s').format(reason) : duties.off;
		if (w.state == 'down')
			return reason ? _('Not used: %s').format(reason) : _('Does not work.');
		if (reason)
			return of(duties, w.effective_role) + ' (' + reason + ')';
		return of(duties, w.effective_role);
	},

	// headline says how all fares: a state for the colour, and a sentence.
	headline: function(s) {
		const total = s.wans.filter(w => w.effective_role != 'off').length;
		const good = s.wans.filter(w => w.state == 'up' || w.state == 'degraded').length;
		const answers = s.converters.length == 0 || s.converters.some(c => c.state == 'up' || c.state == 'full');
		if (s.state == 'disabled')
			return [ 'off', s.wans.length ? _('braid is switched off: traffic takes the ordinary default route.') : _('Nothing is set up yet.') ];
		if (s.state == 'down')
			return [ 'down', _('No line works.') ];
		if (!answers)
			return [ 'degraded', _('No converter answers: connections run over one line each.') ];
		if (good < total)
			return [ 'degraded', format.fill(_('{good} of {total} lines work.'), { good: good, total: total }) ];
		if (s.state == 'degraded')
			return [ 'degraded', _('All lines are used, and not all is well.') ];
		return [ 'up', total == 1 ? _('The one line works.') : format.fill(_('All {total} lines work.'), { total: total }) ];
	},

	// event is what happened, in a sentence.
	event: function(e) {
		const reason = e.reason ? ': ' + of(reasons, e.reason) : '';
		switch (e.type) {
		case 'config':
			return (e.to == 'refused' ? _('Configuration refused, the last good one stays in force') : _('Configuration read')) +
				(e.name ? ' (' + e.name + ')' : '') + reason;
		case 'wan':
		case 'converter':
			return e.name + ' ' + of(states, e.to) + reason;
		}
		return e.name + (e.to ? ' ' + of(states, e.to) : '') + reason;
	}
});
