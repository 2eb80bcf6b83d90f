// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// Nodes that are made and changed without a parser of markup: what comes from
// outside is text, whatever is in it.

const svgNS = 'http://www.w3.org/2000/svg';

function append(node, children) {
	for (const c of children) {
		if (Array.isArray(c))
			append(node, c);
		else if (c instanceof Node)
			node.appendChild(c);
		else if (c != null && c !== false)
			node.appendChild(document.createTextNode(String(c)));
	}
	return node;
}

function make(node, attrs, children) {
	for (const name in attrs) {
		const v = attrs[name];
		if (typeof v == 'function')
			node.addEventListener(name, v);
		else if (v != null && v !== false)
			node.setAttribute(name, v === true ? '' : v);
	}
	return append(node, children || []);
}

// same says whether a node can become another one in its place.
function same(a, b) {
	return a.nodeType == b.nodeType && a.nodeName == b.nodeName &&
		(a.nodeType != 1 || a.dataset.key == b.dataset.key);
}

function morphAttributes(old, now) {
	for (const a of [ ...old.attributes ])
		if (!now.hasAttribute(a.name))
			old.removeAttribute(a.name);
	for (const a of [ ...now.attributes ])
		if (old.getAttribute(a.name) != a.value)
			old.setAttribute(a.name, a.value);
}

function morph(old, now) {
	if (old.nodeType != 1) {
		if (old.data != now.data)
			old.data = now.data;
		return;
	}
	morphAttributes(old, now);
	morphChildren(old, now);
}

function morphChildren(old, now) {
	let at = old.firstChild;
	for (const want of [ ...now.childNodes ]) {
		let found = at;
		while (found && !same(found, want))
			found = found.nextSibling;
		if (!found) {
			old.insertBefore(want, at);
			continue;
		}
		if (found != at)
			old.insertBefore(found, at);
		else
			at = at.nextSibling;
		morph(found, want);
	}
	while (at) {
		const next = at.nextSibling;
		old.removeChild(at);
		at = next;
	}
}

return baseclass.extend({
	// el makes an element, of the classes after a dot: attributes by name,
	// listeners by function, both of which may be left out, children as nodes or
	// as text.
	el(tag, attrs, children) {
		const dot = tag.indexOf('.'), node = document.createElement(dot < 0 ? tag : tag.slice(0, dot));
		if (dot > 0)
			node.className = tag.slice(dot + 1);
		return Array.isArray(attrs) ? append(node, attrs) : make(node, attrs, children);
	},

	// input makes a field, whose label is in it as long as nothing else is.
	input(label, attrs) {
		return make(document.createElement('input'), Object.assign({ type: 'text', class: 'cbi-input-text', placeholder: label, 'aria-label': label, autocomplete: 'off', spellcheck: 'false' }, attrs));
	},

	// svg makes an element of a drawing.
	svg(tag, attrs, children) {
		return make(document.createElementNS(svgNS, tag), attrs, children);
	},

	// update has a node show these children. Nodes that are there already and
	// fit, by kind and data-key, stay: with focus, selection, listeners and
	// scroll position.
	update(node, children) {
		morphChildren(node, append(document.createDocumentFragment(), children));
		return node;
	}
});
