// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require view';
'require form';
'require rpc';
'require uci';
'require ui';
'require braid.advice as advice';
'require braid.agent as agent';
'require braid.dom as dom';
'require braid.format as format';
'require braid.parts as parts';
'require braid.valid as valid';
'require braid.words as words';

const el = dom.el, conf = 'braid';

const dump = rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });

function get(id, name) { return uci.get(conf, id, name); }

// sections are those of the configuration as they would be if all were saved.
function sections() {
	return uci.sections(conf).map(s => {
		const out = { '.type': s['.type'], '.name': s['.name'], '.anonymous': !!s['.anonymous'] };
		for (const name in s) {
			const v = name[0] == '.' ? null : get(s['.name'], name);
			if (v != null && v !== '')
				out[name] = Array.isArray(v) ? v.map(String) : String(v);
		}
		return out;
	});
}

function byType() {
	const types = { globals: [], wan: [], converter: [], rule: [] };
	for (const s of sections())
		(types[s['.type']] || []).push(s);
	return types;
}

// freeName is a name for a section that none has yet.
function freeName(base) {
	const clean = [ ...base.toLowerCase() ].map(c => valid.name(c) ? '_' : c).join('').slice(0, 28) || 'line';
	let name = clean;
	for (let i = 2; get(name); i++)
		name = clean + i;
	return name;
}

// refuse tells why something is not saved: in the form that is open, which would
// cover what stands on the page.
function refuse(title, why) {
	const form = document.querySelector('.modal-overlay-active .modal');
	if (!form)
		return ui.addNotification(title, why, 'error');
	const at = form.querySelector('.bd-refusal') || form.appendChild(el('div.bd-refusal alert-message error', { role: 'alert' }));
	dom.update(at, [ el('h4', [ title ]), why ]);
	at.scrollIntoView({ block: 'nearest' });
}

// faults are those that the agent finds in what was loaded, or saved last.
let faults = [];

// check has the agent look for faults in what would be saved. One that is not
// there finds nothing new.
function check() {
	return agent.check(sections()).then(answer => answer.problems.filter(p => !p.warning)
		.map(p => (p.section ? p.section + (p.option ? '.' + p.option : '') + ': ' : '') + p.message), err => {
		if (agent.trouble(err) == 'denied')
			throw err;
		return faults;
	});
}

// ask refuses what brings a new fault. Those that were there before can be put
// right one after the other.
function ask() {
	return check().then(found => {
		const added = found.filter(f => !faults.includes(f));
		if (added.length) {
			refuse(_('Not saved: the agent would refuse it'), el('ul', added.map(f => el('li', [ f ]))));
			throw new Error(added.join('\n'));
		}
		faults = found;
	});
}

// guard has a form ask the agent each time that it saves. One whose save fails
// has changed what would be saved all the same.
function guard(map) {
	map.save = function(cb, silent) {
		this.failed = true;
		return form.Map.prototype.save.call(this, () => Promise.resolve(cb ? cb() : null).then(ask), silent)
			.then(() => { this.failed = false; });
	};
	return map;
}

// verdict puts the answer of "try" into words.
function verdict(t) {
	if (t.state == 'up')
		return [ parts.dot('up'), _('Reachable and serves this router, %s away.').format(format.ms(t.rtt_ms)) ];
	if (t.state == 'refused')
		return [ parts.dot('refused'), _('Reachable, but it knows neither this router\'s secret nor its address.'), ' ', el('small', [ t.reason ]) ];
	if (t.state == 'full')
		return [ parts.dot('full'), _('Reachable, and has no room now.') ];
	return [ parts.dot('down'), _('Not reachable.'), ' ', el('small', [ t.reason ]) ];
}

// tryOut asks a converter and shows at a node what it says.
function tryOut(section, node) {
	dom.update(node, [ el('em.spinning', [ _('Asking…') ]) ]);
	return agent.try(section).then(verdict, err => agent.excuse(err).then(text => [ text ])).then(children => dom.update(node, children));
}

function converterSection(text, secret) {
	const pair = valid.pairing(text), s = { '.type': 'converter', '.name': freeName('converter'), '.anonymous': false };
	if (pair)
		return Object.assign(s, { address: [ pair.address ], port: pair.port, key: pair.key });
	if (text.startsWith('braid://') || valid.host(text))
		return null;
	s.address = [ text ];
	if (secret)
		s.cookie = secret;
	return s;
}

// converterField is a field for a converter, and a place for what is to be said
// of what is in it.
function converterField() {
	const at = dom.input(_('braid://… or address')), out = el('div.bd-verdict', { 'aria-live': 'polite' });
	return { at, out, made(secret) {
		const made = converterSection(at.value.trim(), secret);
		dom.update(out, made ? [] : [ parts.dot('down'), _('Neither a pairing string nor an address.') ]);
		if (!made)
			at.focus();
		return made;
	} };
}

// home is the name of the section globals, which is made if there is none. UCI
// has it by whatever name it was given, and by one of its own if by none; the
// agent takes no second one.
function home() {
	const s = uci.sections(conf, 'globals')[0];
	return s ? s['.name'] : uci.add(conf, 'globals', freeName('globals'));
}

function add(s) {
	uci.add(conf, s['.type'], s['.name']);
	for (const name in s)
		if (name[0] != '.')
			uci.set(conf, s['.name'], name, s[name]);
	return s['.name'];
}

// wanSection is a WAN on an interface of netifd.
function wanSection(i, more) {
	return Object.assign({ '.type': 'wan', '.name': freeName(i.interface), interface: [ i.interface ] }, more);
}

function interfaceLabel(i) {
	return i.interface + [ i.l3_device || i.device, i.proto ].filter(v => v).map(v => ' · ' + v).join('');
}

// tab begins one in a section: the options that follow are in it.
function tab(s, name, title) {
	s.tab(s.current = name, title);
}

// option adds one to a section; its value is checked as it is typed.
function option(s, kind, name, title, help, placeholder) {
	const o = s.current ? s.taboption(s.current, kind, name, title, help) : s.option(kind, name, title, help);
	const check = (valid.options[s.sectiontype] || {})[name];
	if (check)
		o.validate = (id, v) => v == null || v === '' || check(String(v)) || true;
	o.modalonly = s instanceof form.GridSection;
	o.placeholder = placeholder;
	return o;
}

// say adds to a sentence of help what the default is.
function say(help, word) { return help + ' ' + _('Default: %s.').format(word); }

// choose offers words; the first of them is the default.
function choose(s, name, title, help, choices) {
	const o = option(s, form.ListValue, name, title, say(help, choices[0][1]));
	for (const c of choices)
		o.value(c[0], c[1]);
	o.default = choices[0][0];
	o.write = (id, v) => uci.set(conf, id, name, v == o.default ? null : v);
	return o;
}

function flag(s, name, title, help, on) {
	const o = option(s, form.Flag, name, title, say(help, on ? _('on') : _('off')));
	o.default = on ? '1' : '0';
	// The file may have other words for it, which LuCI would not know.
	o.load = id => valid.on(get(id, name), on) ? '1' : '0';
	return o;
}

// A text, or several, that may be left empty.
function text(s, ...more) {
	const o = option(s, form.Value, ...more);
	o.optional = true;
	return o;
}

function list(s, ...more) {
	const o = option(s, form.DynamicList, ...more);
	o.optional = true;
	return o;
}

// when has options apply only while another one has one of these values. Where
// they do not, LuCI takes them out of the file.
function when(name, values, ...options) {
	for (const o of options)
		for (const v of values)
			o.depends(name, v);
}

// offer reads an option's choices each time that it is shown: what has been
// added elsewhere meanwhile is among them.
function offer(o, choices) {
	o.load = function(id) {
		this.keylist = [];
		this.vallist = [];
		for (const c of choices())
			this.value(c[0], c[1]);
		return this.super('load', [ id ]);
	};
}

// button is one that does something of a page's.
function button(page, kind, children, what, ...more) {
	return el('button.cbi-button' + kind, { click: ui.createHandlerFn(page, what, ...more) }, children);
}

// lines are the choices among WANs.
function lines(...first) {
	return first.concat(uci.sections(conf, 'wan').map(w => [ w['.name'], w['.name'] ]));
}

// column adds one to a table: text, whatever is in it.
function column(s, name, title, say) {
	const o = s.option(form.DummyValue, name, title);
	o.modalonly = false;
	o.textvalue = id => el('span', [ say(id) ]);
	return o;
}

return view.extend({
	load() {
		parts.style();
		this.may = L.hasViewPermission();
		if (!this.may)
			return Promise.resolve();
		return uci.load(conf).then(() => Promise.all([
			L.resolveDefault(uci.load('network')), L.resolveDefault(uci.load('firewall')),
			L.resolveDefault(dump(), []), L.resolveDefault(agent.status(), null), check()
		])).then(all => {
			this.dump = all[2];
			this.status = all[3];
			faults = all[4];
		}).catch(err => agent.excuse(err).then(text => { this.trouble = text; }));
	},

	render() {
		const title = el('h2', [ _('Multipath') ]);
		if (!this.may)
			return this.bare([ title, el('p', [ _('These settings hold secrets. Your account may see the status only.') ]) ]);
		if (this.trouble)
			return this.bare([ title, el('div.alert-message error', [ this.trouble ]) ]);
		const m = this.map = guard(new form.Map(conf));
		this.globals(m);
		this.wans(m);
		this.converters(m);
		this.rules(m);
		return m.render().then(node => {
			this.root = el('div.braid', [ title,
				uci.sections(conf, 'wan').length ? el('div', { 'data-key': 'advice' }, [ this.advice() ]) : this.guide(), node ]);
			return this.root;
		});
	},

	// bare is a page with nothing to save.
	bare(children) {
		this.handleSave = this.handleSaveApply = this.handleReset = null;
		return el('div.braid', children);
	},

	lan() {
		const v = advice.list(get(home(), 'lan'));
		return v.length ? v : [ 'lan' ];
	},

	advice() {
		const network = {};
		for (const s of uci.sections('network', 'interface'))
			network[s['.name']] = s;
		const known = uci.sections('network', 'interface').length > 0, zones = uci.sections('firewall', 'zone');
		const found = advice.advise(byType(), this.status, known ? network : null, zones.length ? zones : null);
		const wrong = faults.map(f => ({ level: 'error', text: f, remedy: _('The agent takes nothing of what is saved until this is put right.') }));
		return el('ul.bd-advice', wrong.concat(found).map(a => el('li', [
			parts.dot({ error: 'down', warning: 'degraded', notice: 'off' }[a.level]), el('span', [ el('b', [ a.text ]), ' ', a.remedy ]) ])));
	},

	globals(m) {
		const s = m.section(form.NamedSection, home(), 'globals');
		tab(s, 'general', _('General'));
		const on = flag(s, 'enabled', _('Enabled'), _('Take the LAN\'s TCP and carry it over all lines.'), true);
		on.rmempty = false;
		offer(list(s, 'lan', _('LAN'), _('Whose connections are taken: interfaces or devices. Default: lan.'), 'lan'), () => this.dump.map(i => [ i.interface, interfaceLabel(i) ]));
		choose(s, 'fallback', _('Without a converter'), _('New connections, when none answers.'),
			[ [ 'direct', _('go straight to the server') ], [ 'reject', _('are refused') ] ]);
		flag(s, 'block_quic', _('Block QUIC'), _('Browsers then use TCP, which can take all lines at once.'));
		tab(s, 'advanced', _('Advanced'));
		choose(s, 'accept', _('Handshake'), _('Early is faster, late shows the LAN which servers refuse or cannot be reached.'),
			[ [ 'early', _('early') ], [ 'late', _('late, when the far side has answered') ] ]);
		flag(s, 'steer', _('Steer the rest'), _('Choose a line per flow for all that is not taken, such as UDP.'), true);
		choose(s, 'lan_mptcp', _('Multipath hosts'), _('Hosts in the LAN that speak Multipath TCP themselves.'),
			[ [ 'pass', _('are left alone') ], [ 'convert', _('are carried like others') ], [ 'extend', _('keep their connections, with the other lines added') ] ]);
		choose(s, 'ipv6', _('Steered IPv6'), _('Where lines have different prefixes.'),
			[ [ 'masquerade', _('masquerade') ], [ 'npt', _('translate prefixes') ] ]);
		choose(s, 'firewall', _('Packet filter'), '',
			[ [ 'auto', _('automatic') ], [ 'nftables', 'nftables' ], [ 'iptables', 'iptables' ] ]);
		choose(s, 'log_level', _('Log'), _('What the system log is told.'),
			[ 'info', 'debug', 'warn', 'error' ].map(v => [ v, v ]));
	},

	// grid is a table of sections whose rows open a form of their own.
	grid(m, type, title, help) {
		const s = m.section(form.GridSection, type, title, help), page = this;
		s.addremove = true;
		s.sortable = type != 'converter';
		s.nodescriptions = true;
		s.sectiontitle = id => id;
		s.modaltitle = id => title + ': ' + id;
		s.addModalOptions = modal => { guard(modal.map); };
		// What was refused must not be saved later on.
		s.handleModalCancel = function(map, ev, saved) {
			const done = Promise.resolve(this.super('handleModalCancel', [ map, ev, saved ]));
			return done.then(() => saved ? page.refresh() : map.failed ? page.reread() : null);
		};
		s.handleRemove = function(id) {
			uci.remove(conf, id);
			return page.keep();
		};
		return s;
	},

	// keep saves what a click has changed, or takes it back.
	keep() {
		return this.map.save(null, true).then(() => this.refresh(), () => this.reread());
	},

	// reread takes back what has not been saved. Meanwhile there are no sections
	// that a click could open.
	reread() {
		ui.showModal(_('Multipath'), [ el('p.spinning', [ _('Loading…') ]) ]);
		uci.unload(conf);
		return uci.load(conf).then(() => home()).then(() => this.map.reset()).finally(() => ui.hideModal());
	},

	// refresh shows what follows from sections that have come or gone.
	refresh() {
		const at = this.root && this.root.querySelector('[data-key=advice]');
		if (at)
			dom.update(at, [ this.advice() ]);
	},

	wans(m) {
		const s = this.grid(m, 'wan', _('Lines'), _('The order is that of preference among equals: drag to change it.'));
		const state = id => (this.status ? this.status.wans : []).find(w => w.name == id);
		column(s, '_at', _('Interface'), id => advice.list(get(id, 'interface')).concat(advice.list(get(id, 'device'))).join(', ') || '–');
		column(s, '_role', _('Role'), id => get(id, 'role') ? words.role(get(id, 'role')) : state(id) ? _('automatic: %s').format(words.role(state(id).role)) : _('automatic'));
		column(s, '_state', _('State'), id => state(id) ? [ parts.dot(state(id).state), words.state(state(id).state) ] : '–');
		s.renderSectionAdd = () => this.adder();

		tab(s, 'general', _('General'));
		offer(list(s, 'interface', _('Interfaces'), _('Those of this one line, such as wan. What shares its device, like wan6, belongs to it unasked.')), () => this.dump.filter(i => i.interface != 'loopback').map(i => [ i.interface, interfaceLabel(i) ]));
		choose(s, 'role', _('Role'), _('Automatic: primary for the first fixed line, bond for others; backup for cellular with a quota, else overflow.'),
			[ [ '', _('automatic') ] ].concat(words.roles.map(r => [ r, words.role(r) + ' – ' + words.duty(r) ])));
		choose(s, 'kind', _('Kind'), _('Automatic: by device and protocol.'), [ [ '', _('automatic') ], [ 'fixed', _('fixed') ], [ 'cellular', _('cellular') ] ]);
		text(s, 'rate_down', _('Rate down'), _('kbit/s, 1 to 100000000. Overflow is measured against it. Default: learned.'), _('learned'));
		text(s, 'rate_up', _('Rate up'), _('kbit/s, 1 to 100000000. Default: learned.'), _('learned'));
		tab(s, 'quota', _('Quota'));
		choose(s, 'quota_period', _('Period'), '', [ [ 'month', _('a month') ], [ 'once', _('none: prepaid') ] ]);
		text(s, 'quota', _('Quota'), _('GB, 0 to 1000000; 0 is none. Default: none.'), '0');
		text(s, 'quota_day', _('Day'), _('Of the month on which the count starts anew, 1 to 28. Default: 1.'), '1');
		choose(s, 'quota_action', _('When used up'), '', [ [ 'backup', _('becomes a backup') ], [ 'off', _('is not used any more') ] ]);
		tab(s, 'advanced', _('Advanced'));
		when('kind', [ '', 'cellular' ],
			text(s, 'modem', _('Modem'), _('auto, an IMEI of 15 digits or a path of ModemManager.'), 'auto'),
			flag(s, 'roaming', _('Use while roaming'), _('Cellular only.')));
		text(s, 'weight', _('Weight'), _('Share of steered flows, 1 to 1000. Default: 100.'), '100');
		list(s, 'gateway', _('Gateway'), _('At most one of each address family. Default: learned.'), '198.51.100.1');
		list(s, 'probe', _('Probe'), _('Addresses that are asked whether the line works. Default: the converters.'), '192.0.2.10');
		text(s, 'device', _('Device'), _('Instead of interfaces, on a system without netifd.'), 'eth1');
	},

	// adder is how lines are added: a button for each interface that has none.
	adder() {
		const free = advice.unused(this.dump, uci.sections(conf, 'wan'), this.lan());
		return el('div.cbi-section-create cbi-tblsection-create bd-add', [
			el('span', [ free.length ? _('Add a line:') : _('Every interface is a line already.') ]),
			free.map(i => button(this, ' cbi-button-add', [ '+ ', interfaceLabel(i) ], 'addWAN', i))
		]);
	},

	addWAN(i) {
		add(wanSection(i, advice.cellular(i) ? { kind: 'cellular' } : {}));
		return this.keep();
	},

	converters(m) {
		const s = this.grid(m, 'converter', _('Converters'), _('The far ends of all lines: braid-mcp on a rented server or at the provider. Used is the one with the lowest priority that answers.'));
		column(s, '_at', _('Address'), id => get(id, 'mode') == 'onpath' ? _('on the path of %s').format(get(id, 'wan')) :
			get(id, 'srv') ? _('in the DNS of %s').format(get(id, 'srv')) : advice.list(get(id, 'address')).join(', ') || '–');
		const test = s.option(form.Button, '_test', _('Test'));
		test.editable = true;
		test.modalonly = false;
		test.inputtitle = _('Test');
		test.onclick = function(ev, id) {
			const cell = ev.target.closest('td') || ev.target.parentNode;
			let out = cell.querySelector('.bd-verdict');
			if (!out)
				cell.appendChild(out = el('div.bd-verdict', { 'aria-live': 'polite' }));
			return tryOut(sections().find(v => v['.name'] == id), out);
		};
		s.renderSectionAdd = () => {
			const field = converterField();
			return el('div.cbi-section-create cbi-tblsection-create bd-form', [ field.at, button(this, ' cbi-button-add', [ _('Add') ], () => {
				const made = field.made();
				return made && this.keep(add(made));
			}), field.out ]);
		};
		tab(s, 'general', _('General'));
		const asked = [
			list(s, 'address', _('Addresses'), _('IPv4, IPv6 or host names; several are the same converter.'), '192.0.2.10'),
			text(s, 'port', _('Port'), _('1 to 65535. Default: 5124.'), '5124'),
			text(s, 'srv', _('Domain'), _('Instead of addresses and port: its DNS says where the converters are.'), 'isp.example'),
			text(s, 'key', _('Key'), _('The secret of the pairing string: hex digits. It is never sent.')),
			text(s, 'cookie', _('Cookie'), _('Hex digits, sent in clear: for closed networks and other converters.'))
		];
		asked[3].password = asked[4].password = true;
		tab(s, 'advanced', _('Advanced'));
		choose(s, 'mode', _('Place'), _('One on the path of a line converts unasked and has no address.'),
			[ [ 'explicit', _('is asked') ], [ 'onpath', _('on the path of a line') ] ]);
		when('mode', [ '', 'explicit' ], ...asked);
		const wan = choose(s, 'wan', _('Line'), _('The one on whose path it stands.'), [ [ '', _('none') ] ]);
		offer(wan, lines);
		when('mode', [ 'onpath' ], wan);
		text(s, 'priority', _('Priority'), _('0 to 65535, lower first. Default: 10.'), '10');
	},

	rules(m) {
		const s = this.grid(m, 'rule', _('Rules'), _('For what is to go another way. The first that matches wins: drag to change the order.'));
		s.addbtntitle = _('Add a rule');
		column(s, '_what', _('What'), id => [ 'src', 'dest', 'domain', 'dest_port' ].reduce((all, name) => all.concat(advice.list(get(id, name))), [ get(id, 'proto') || '' ]).filter(v => v).join(', ') || _('everything'));
		column(s, '_how', _('Path'), id => words.path(get(id, 'path') || 'auto') + (get(id, 'wan') ? ' · ' + get(id, 'wan') : ''));
		flag(s, 'enabled', _('Enabled'), '', true);
		list(s, 'src', _('From'), _('Addresses, prefixes or MAC addresses of hosts in the LAN. Default: all.'), '192.168.1.20');
		list(s, 'dest', _('To'), _('Addresses or prefixes. Default: all.'), '203.0.113.0/24');
		list(s, 'domain', _('Domains'), _('With their subdomains.'), 'bank.example');
		choose(s, 'proto', _('Protocol'), '', [ [ 'any', _('any') ], [ 'tcp', 'TCP' ], [ 'udp', 'UDP' ], [ 'icmp', 'ICMP' ] ]);
		when('proto', [ '', 'any', 'tcp', 'udp' ], list(s, 'dest_port', _('Ports'), _('Of the destination: 1 to 65535, or ranges.'), '27000-27100'));
		choose(s, 'path', _('Path'), '', [ 'auto', 'convert', 'direct', 'pass', 'reject' ].map(v => [ v, words.path(v) ]));
		const wan = choose(s, 'wan', _('Line'), _('The one that it is pinned to.'), [ [ '', _('any') ] ]);
		offer(wan, () => lines([ '', _('any') ]));
		when('path', [ 'pass' ], wan);
	},

	// guide is what a newcomer sees: four questions, and it runs.
	guide() {
		const free = advice.unused(this.dump, [], this.lan()), cellular = free.filter(i => advice.cellular(i));
		const first = free.find(i => !advice.cellular(i));
		const pick = (kind, i, on) => el('label.bd-choice', [ el('input', { type: kind, name: 'bd-' + kind, value: i.interface, checked: on }), interfaceLabel(i) ]);
		const field = converterField(), made = () => field.made(secret.value.trim());
		const secret = dom.input(_('cookie, if there is one'), { type: 'password', autocomplete: 'new-password' });
		const finish = () => {
			const picked = kind => [ ...box.querySelectorAll('input[type=' + kind + ']:checked') ].map(n => n.value).filter(v => v);
			const one = picked('radio')[0], others = picked('checkbox').filter(v => v != one);
			const converter = field.at.value.trim() ? made() : {};
			if (!converter)
				return;
			if (!one && !others.length)
				return dom.update(field.out, [ parts.dot('down'), _('Pick a line first.') ]);
			const by = name => free.find(i => i.interface == name);
			if (one)
				add(wanSection(by(one), { kind: 'fixed' }));
			for (const name of others)
				add(wanSection(by(name), { kind: 'cellular' }));
			if (converter['.type'])
				add(converter);
			return this.map.save(() => uci.set(conf, home(), 'enabled', '1'), true).then(() => this.apply(), () => this.reread());
		};
		const box = el('div.bd-guide', [
			el('h3', [ _('Four questions, and it runs') ]),
			el('ol', [
				el('li', [ el('b', [ _('Which is your fixed line?') ]), free.map(i => pick('radio', i, i == first)), el('label.bd-choice', [ el('input', { type: 'radio', name: 'bd-radio', value: '', checked: !first }), _('none') ]) ]),
				el('li', [ el('b', [ _('Which are cellular?') ]), free.length ? free.map(i => pick('checkbox', i, cellular.includes(i))) : el('p', [ _('There is no other interface yet: make one under Network > Interfaces.') ]) ]),
				el('li', [ el('b', [ _('Where is your converter?') ]), el('p', [ _('Paste what braid-mcp printed, or an address. Without one only servers that speak Multipath TCP use several lines.') ]),
					el('div.bd-form', [ field.at, secret, button(this, '', [ _('Test') ], () => {
						const asked = made();
						return asked && tryOut(asked, field.out);
					}) ]), field.out ]),
				el('li', [ el('b', [ _('Ready?') ]), ' ', button(this, ' cbi-button-positive', [ _('Switch on') ], finish) ])
			])
		]);
		return box;
	},

	// apply has LuCI apply what is saved. It takes back changes of the network
	// unless the browser reaches the router again; changes of braid alone cannot
	// lock anybody out, and must not be taken back because a line is slow.
	apply() {
		return L.resolveDefault(uci.changes(), {}).then(changes => ui.changes.apply(Object.keys(changes).some(c => c != conf)));
	},

	handleSaveApply(ev) {
		return this.handleSave(ev).then(() => this.apply());
	}
});
