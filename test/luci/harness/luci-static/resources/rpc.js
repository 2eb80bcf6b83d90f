// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

// Calls of ubus over JSON-RPC. What is called in one turn goes out in one
// request; a failing call looks like an empty answer unless reject is asked for.

let waiting = [], id = 1;

function flush() {
	const batch = waiting;
	waiting = [];
	fetch(L.env.ubuspath, { method: 'POST', body: JSON.stringify(batch.map(w => w.message)) }).then(r => r.json()).then(answers => {
		batch.forEach(w => w.settle(answers.find(a => a.id == w.message.id)));
	}, err => batch.forEach(w => w.reject(err)));
}

return {
	declare(o) {
		return (...args) => new Promise((resolve, reject) => {
			const params = {}, what = 'RPC call to ' + o.object + '/' + o.method;
			(o.params || []).forEach((name, i) => { if (args[i] !== undefined) params[name] = args[i]; });
			const message = { jsonrpc: '2.0', id: id++, method: 'call', params: [ L.env.sessionid, o.object, o.method, params ] };
			const settle = answer => {
				if (answer.error)
					return reject(new Error(what + ' failed with error ' + answer.error.code + ': ' + answer.error.message));
				let [ code, value ] = answer.result;
				if (o.reject && code)
					return reject(new Error(what + ' failed with ubus code ' + code + ': no'));
				if (answer.result.length < 2)
					value = code;
				for (const key in o.expect || {}) {
					if (value !== null && key !== '')
						value = value[key];
					if (value === null || value === undefined || Object.prototype.toString.call(value) != Object.prototype.toString.call(o.expect[key]))
						value = o.expect[key];
				}
				resolve(value);
			};
			if (!waiting.length)
				queueMicrotask(flush);
			waiting.push({ message: message, settle: settle, reject: reject });
		});
	}
};
