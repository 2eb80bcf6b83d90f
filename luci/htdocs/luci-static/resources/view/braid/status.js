// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require view';
'require poll';
'require ui';
'require braid.agent as agent';
'require braid.dom as dom';
'require braid.format as format';
'require braid.parts as parts';
'require braid.picture as picture';
'require braid.series as series';
'require braid.words as words';

const el = dom.el;

// Seconds between two calls, until figures count as old, and between two looks
// at the connections, while they are shown.
const interval = 2, stale = 7, patience = 10;

// pageSize is how many connections are shown at once.
const pageSize = 25;

const spans = [ 600, 3600, 86400 ];

function now() { return performance.now() / 1000; }

// ground is the colour that is behind a node, whatever the theme.
function ground(node) {
	for (; node instanceof Element; node = node.parentNode) {
		const c = getComputedStyle(node).backgroundColor;
		if (c && c != 'transparent' && c != 'rgba(0, 0, 0, 0)')
			return c;
	}
	return 'Canvas';
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		parts.style();
		this.span = spans[0];
		this.events = [];
		this.next = 0;
		this.open = {};
		this.offset = 0;
		// In one request: LuCI sends together what is asked together.
		return Promise.all([ this.readStatus(), this.readHistory(), this.readEvents() ]).catch(err => this.fail(err));
	},

	render() {
		const may = L.hasViewPermission();
		this.nodes = {};
		const node = (name, ...what) => this.nodes[name] = el(...what);
		const root = node('root', 'div.braid', { click: ev => this.act(ev), change: ev => this.act(ev), submit: ev => this.act(ev) }, [
			el('h2', [ _('Multipath') ]),
			node('trouble', 'div'),
			el('div.bd-row bd-head', [ node('headline', 'span.bd-row bd-live', { role: 'status' }), node('age', 'span.bd-age') ]),
			node('problems', 'div'),
			node('all', 'div', [
				node('picture', 'div.bd-picture bd-live'),
				el('h3', [ _('Lines') ]),
				node('cards', 'div.bd-cards bd-live'),
				el('h3', [ _('Rates') ]),
				el('div.bd-form', [ node('spans', 'span.bd-row'), node('legend', 'span.bd-live') ]),
				node('graph', 'div.bd-live'),
				el('h3', [ _('Which way does it take?') ]),
				el('form.bd-form', { 'data-do': 'explain' }, [
					this.nodes.dest = dom.input(_('address or name')),
					el('button.cbi-button cbi-button-action', { type: 'submit' }, [ _('Show') ])
				]),
				node('way', 'div', { 'aria-live': 'polite' }),
				el('h3', [ _('Connections') ]),
				node('fold', 'div', [ el('button.cbi-button', { 'data-do': 'connections', 'aria-expanded': 'false' }, [ _('Show connections') ]) ]),
				node('filter', 'form.bd-form', { 'data-do': 'filter', hidden: true }, [
					this.nodes.host = dom.input(_('address of a host')),
					node('wan', 'select.cbi-input-select', { 'aria-label': _('line') }),
					el('button.cbi-button', { type: 'submit' }, [ _('Filter') ])
				]),
				node('connections', 'div'),
				el('h3', [ _('Events') ]),
				node('events', 'ul.bd-events', { tabindex: 0, 'aria-label': _('Events') })
			])
		]);
		this.may = may;
		document.addEventListener('visibilitychange', () => document.hidden || this.tick());
		if (window.ResizeObserver)
			new ResizeObserver(() => this.draw()).observe(this.nodes.picture);
		setInterval(() => this.showAge(), 1000);
		poll.add(() => this.tick(), interval);
		requestAnimationFrame(() => this.show());
		this.show();
		return root;
	},

	// tick makes one call, and none while nobody looks.
	tick() {
		if (document.hidden)
			return Promise.resolve();
		return this.nextCall().then(() => this.show()).catch(err => this.fail(err).then(() => this.show()));
	},

	nextCall() {
		const s = this.status;
		if (s && !this.trouble && s.last_event >= this.next)
			return this.readEvents();
		if (s && this.span > spans[0] && now() - this.historyAt > this.history.step)
			return this.readHistory();
		if (s && this.listed && now() - this.listedAt > patience)
			return this.readConnections();
		return this.readStatus();
	},

	readStatus() {
		return agent.status().then(s => {
			if (this.status && s.uptime < this.status.uptime)
				this.next = 0; // it is another agent: its events are others
			if (this.history && this.span == spans[0] && this.at)
				this.grow(s);
			this.status = s;
			this.at = now();
			this.trouble = null;
		});
	},

	// grow goes on with the graph from what is polled.
	grow(s) {
		const steps = Math.floor((now() - this.historyAt) / this.history.step);
		if (steps < 1)
			return;
		this.history = series.push(this.history, s.wans, steps * this.history.step, this.span);
		this.historyAt += steps * this.history.step;
	},

	readHistory() {
		return agent.history(this.span).then(h => {
			this.history = series.fromHistory(h);
			this.historyAt = now();
		});
	},

	readEvents() {
		return agent.events(this.next).then(e => {
			if (this.next == 0)
				this.events = [];
			this.events = this.events.concat(e.events.map(v => Object.assign({}, v, { seen: now() }))).slice(-200);
			this.next = e.next;
		});
	},

	readConnections() {
		const wan = this.nodes.wan.value, host = this.nodes.host.value.trim();
		return agent.connections(pageSize, this.offset, wan, host).then(c => {
			this.listed = c;
			this.listedAt = now();
		});
	},

	// fail remembers in words why there is no answer.
	fail(err) {
		return agent.excuse(err).then(text => { this.trouble = text; });
	},

	show() {
		const n = this.nodes, s = this.status;
		dom.update(n.trouble, this.trouble ? [ el('div.alert-message error', [ this.trouble ]) ] : []);
		n.root.classList.toggle('bd-stale', !!this.trouble);
		n.all.hidden = !s;
		this.showAge();
		if (!s)
			return;
		const headline = words.headline(s);
		dom.update(n.headline, [ parts.dot(headline[0]), el('b', [ headline[1] ]), el('small', [ _('agent %s, running for %s').format(s.version, format.span(s.uptime)) ]) ]);
		dom.update(n.problems, parts.problems(s.problems));
		n.problems.hidden = s.problems.length == 0;
		this.draw();
		dom.update(n.cards, s.wans.length ? s.wans.map((w, i) => parts.card(w, i, this.may)) : [ el('p', [ _('No line is configured.'), ' ', el('a', { href: L.url('admin/network/braid') }, [ _('Set them up') ]) ]) ]);
		for (const select of n.cards.querySelectorAll('select'))
			if (select != document.activeElement)
				select.value = select.dataset.value;
		dom.update(n.legend, parts.legend(s.wans));
		dom.update(n.spans, spans.map(v => el('button', { class: 'cbi-button' + (v == this.span ? ' cbi-button-action' : ''), 'data-key': v, 'data-do': 'span', 'data-span': v, 'aria-pressed': v == this.span ? 'true' : 'false' }, [ format.span(v) ])));
		dom.update(n.wan, [ el('option', { value: '' }, [ _('all lines') ]) ].concat(s.wans.map(w => el('option', { value: w.name, 'data-key': w.name }, [ w.name ]))));
		dom.update(n.events, parts.events(this.events.map(e => Object.assign({}, e, { age: e.age + now() - e.seen })), 0));
		this.showConnections();
	},

	// draw has the picture and the graph fit the width that they have.
	draw() {
		const n = this.nodes, s = this.status, width = n.picture.clientWidth;
		if (!s || !width)
			return;
		const upright = width < 820, boxes = {};
		n.picture.classList.toggle('bd-upright', upright);
		n.picture.style.setProperty('--ground', ground(n.picture));
		const old = n.picture.querySelector('svg');
		dom.update(n.picture, (old ? [ old.cloneNode(true) ] : []).concat(parts.boxes(s)));
		const origin = n.picture.getBoundingClientRect();
		for (const b of n.picture.querySelectorAll('.bd-box')) {
			const r = b.getBoundingClientRect();
			boxes[b.dataset.key] = { x: r.left - origin.left, y: r.top - origin.top, w: r.width, h: r.height };
		}
		dom.update(n.picture, [ parts.wires(picture.wires(boxes, s, upright), width, n.picture.clientHeight) ].concat(parts.boxes(s)));
		if (this.history)
			dom.update(n.graph, [ parts.graph(this.history, s.wans, this.span, Math.min(width, n.graph.clientWidth || width)) ]);
	},

	showAge() {
		if (!this.nodes)
			return;
		const age = this.at ? now() - this.at : 0;
		this.nodes.age.textContent = this.at ? _('as of %s ago').format(format.span(age)) : '';
		this.nodes.root.classList.toggle('bd-stale', !!this.trouble || age > stale);
	},

	showConnections() {
		const n = this.nodes, c = this.listed;
		n.filter.hidden = !c;
		n.fold.hidden = !!c;
		if (!c)
			return;
		const last = Math.min(c.total, this.offset + c.connections.length);
		dom.update(n.connections, [
			parts.connections(c.connections, this.open),
			el('div.bd-form', [
				el('button.cbi-button', { 'data-do': 'page', 'data-by': -pageSize, disabled: this.offset == 0 }, [ '‹ ', _('Previous') ]),
				el('span', [ _('%s to %s of %s, as of %s ago').format(last ? this.offset + 1 : 0, last, c.total, format.span(now() - this.listedAt)) ]),
				el('button.cbi-button', { 'data-do': 'page', 'data-by': pageSize, disabled: last >= c.total }, [ _('Next'), ' ›' ])
			])
		]);
	},

	// act does what a button, a list or a form asks for.
	act(ev) {
		const at = ev.target.closest('[data-do]');
		const wanted = { FORM: 'submit', SELECT: 'change', BUTTON: 'click' };
		if (!at || wanted[at.nodeName] != ev.type)
			return;
		ev.preventDefault();
		const wan = at.dataset.wan, done = () => this.show();
		const report = err => agent.excuse(err).then(text => ui.addNotification(null, el('p', [ text ]), 'error'));
		switch (at.dataset.do) {
		case 'probe':
			at.disabled = true;
			return agent.probe(wan).then(() => this.readStatus()).then(done, report).then(() => { at.disabled = false; });
		case 'role':
			return agent.set(wan, at.value).then(() => this.readStatus()).then(() => { at.blur(); this.show(); }, report);
		case 'span':
			this.span = Number(at.dataset.span);
			return this.readHistory().then(done, report);
		case 'fold':
			this.open[at.dataset.id] = at.getAttribute('aria-expanded') != 'true';
			return done();
		case 'connections':
		case 'filter':
			this.offset = 0;
			return this.readConnections().then(done, report);
		case 'page':
			this.offset = Math.max(0, this.offset + Number(at.dataset.by));
			return this.readConnections().then(done, report);
		case 'explain':
			return this.explain(this.nodes.dest.value.trim());
		}
	},

	explain(dest) {
		const show = children => dom.update(this.nodes.way, children);
		if (!dest)
			return show([]);
		return agent.explain(dest, 443, 'tcp', '').then(e => show(parts.explanation(e)),
			() => show([ el('p.alert-message warning', [ _('There is no such address or name, or the agent does not answer.') ]) ]));
	}
});
