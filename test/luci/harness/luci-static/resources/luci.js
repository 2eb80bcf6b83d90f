// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// What of LuCI's own script the pages stand on, with the traps that it has: E()
// takes a bare string for markup, a false attribute is set all the same, and
// null in a list of children prints.

'use strict';

(() => {
	const classes = {};

	class Base {
		super(name, args) {
			// The method above the one that is running.
			this.depth = this.depth || {};
			let proto = Object.getPrototypeOf(this), found = [];
			for (; proto; proto = Object.getPrototypeOf(proto))
				if (Object.prototype.hasOwnProperty.call(proto, name))
					found.push(proto[name]);
			if (Object.prototype.hasOwnProperty.call(this, name))
				found.unshift(this[name]);
			const at = (this.depth[name] || 0) + 1;
			this.depth[name] = at;
			try {
				return found[at].apply(this, args);
			}
			finally {
				this.depth[name] = at - 1;
			}
		}

		static extend(members) {
			const derived = class extends this {};
			Object.assign(derived.prototype, members);
			return derived;
		}
	}

	window.E = function(tag, attrs, children) {
		const node = tag === undefined || Array.isArray(tag) ? document.createDocumentFragment() : document.createElement(tag);
		if (Array.isArray(tag))
			children = tag;
		if (attrs !== null && attrs !== undefined && (typeof attrs != 'object' || Array.isArray(attrs) || attrs instanceof Node))
			[ attrs, children ] = [ null, attrs ];
		for (const name in attrs || {}) {
			if (typeof attrs[name] == 'function')
				node.addEventListener(name, attrs[name]);
			else if (attrs[name] !== null && attrs[name] !== undefined)
				node.setAttribute(name, attrs[name]);
		}
		const append = c => {
			if (Array.isArray(c))
				c.forEach(v => v instanceof Node ? node.appendChild(v) : Array.isArray(v) ? append(v) : node.appendChild(document.createTextNode(String(v))));
			else if (c instanceof Node)
				node.appendChild(c);
			else if (c !== null && c !== undefined)
				node.innerHTML = String(c);
		};
		append(children);
		return node;
	};

	class LuCI {
		constructor(env) {
			this.env = env;
			this.Class = Base;
			document.addEventListener('DOMContentLoaded', () => this.require('poll').then(poll => poll.start()));
		}

		url(...parts) { return [ this.env.scriptname ].concat(parts).join('/'); }
		resource(...parts) { return [ this.env.resource ].concat(parts).join('/'); }
		resolveDefault(value, otherwise) { return Promise.resolve(value).catch(() => otherwise); }
		hasViewPermission() { return !this.env.nodespec.readonly; }
		isObject(v) { return v !== null && typeof v == 'object'; }

		require(name) {
			return classes[name] = classes[name] || this.fetchClass(name);
		}

		async fetchClass(name) {
			if (name == 'baseclass')
				return Base;
			const answer = await fetch(this.resource(name.replace(/\./g, '/') + '.js'));
			if (!answer.ok)
				throw new Error(name + ': ' + answer.status);
			const text = await answer.text(), wants = [];
			for (const m of text.matchAll(/'require ([\w.]+)(?: as (\w+))?';/g))
				wants.push([ m[1], m[2] || m[1].split('.').pop() ]);
			const given = await Promise.all(wants.map(w => this.require(w[0])));
			const made = new Function('L', '_', 'E', ...wants.map(w => w[1]), text + '\n//# sourceURL=' + name).call(window, this, _, E, ...given);
			return typeof made == 'function' ? Object.prototype.hasOwnProperty.call(made, 'isKit') ? made : new made() : made;
		}
	}
	window.LuCI = LuCI;
})();
