// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require rpc';

// The agent's ubus object. A call that fails is an error, never an empty
// answer.

const denied = [ 6, -32002 ], absent = [ 2, 3, 4, -32000, -32001 ];

function declare(method, params) {
	return rpc.declare({ object: 'braid', method, params, reject: true });
}

// code finds the number in the text of an error, which is all that LuCI keeps
// of it.
function code(err) {
	const found = /(?:error|code) (-?\d+)/.exec(String(err && err.message));
	return found ? Number(found[1]) : 0;
}

return baseclass.extend({
	status: declare('status'),
	connections: declare('connections', [ 'limit', 'offset', 'wan', 'host' ]),
	explain: declare('explain', [ 'dest', 'port', 'proto', 'src' ]),
	set: declare('set', [ 'wan', 'role' ]),
	probe: declare('probe', [ 'wan' ]),
	history: declare('history', [ 'span' ]),
	events: declare('events', [ 'since' ]),
	check: declare('check', [ 'sections' ]),
	try: declare('try', [ 'section' ]),

	// program tells whether braid is there at all.
	program: rpc.declare({ object: 'file', method: 'stat', params: [ 'path' ], reject: true }),

	// trouble sorts an error: 'denied', 'absent' (the agent is not there) or
	// 'silent' (it is, and does not answer).
	trouble(err) {
		const c = code(err);
		return denied.includes(c) ? 'denied' : absent.includes(c) ? 'absent' : 'silent';
	},

	// excuse finds out which of four troubles an error is and says it in words.
	excuse(err) {
		const kind = this.trouble(err);
		if (kind == 'denied')
			return Promise.resolve(_('You are not allowed to see this: your account lacks the permission luci-app-braid.'));
		if (kind == 'silent')
			return Promise.resolve(_('The agent does not answer. These are the last figures it gave.'));
		return this.program('/usr/sbin/braid').then(
			() => _('The agent does not run. Start it under System > Startup; the system log says why it ended.'),
			e => this.trouble(e) == 'denied' ? _('The agent does not run.') : _('braid is not installed. Install the package braid.'));
	}
});
