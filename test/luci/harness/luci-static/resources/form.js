// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require uci';
'require ui';

// Forms over sections: one section with tabs, and a table of sections whose
// rows open a form of their own.

const list = v => v === null || v === undefined || v === '' ? [] : Array.isArray(v) ? v : [ v ];

class Option {
	constructor(section, tab, name, title, help) {
		Object.assign(this, { section: section, tab: tab, option: name, title: title, help: help || '', keylist: [], vallist: [], deps: [], rmempty: true });
	}

	value(k, v) {
		this.keylist.push(String(k));
		this.vallist.push(v);
	}

	depends(option, value) { this.deps.push([ option, value ]); }
	load(id) { return uci.get(this.section.map.config, id, this.option); }
	super(name, args) { return Object.getPrototypeOf(this)[name].apply(this, args); }
	textvalue(id) { return this.load(id); }
	complaint(id) {
		if (this.node.hidden)
			return null;
		const wrong = list(this.formvalue()).map(v => this.validate ? this.validate(id, v) : true).find(v => v !== true);
		for (const n of this.node.querySelectorAll('input, select'))
			n.classList.toggle('cbi-input-invalid', wrong !== undefined);
		return wrong === undefined ? null : wrong;
	}

	render(id) {
		const given = this.load(id);
		this.node = E('div', { 'class': 'cbi-value', 'data-name': this.option }, [
			E('label', { 'class': 'cbi-value-title' }, [ this.title ]), E('div', { 'class': 'cbi-value-field' }, [ this.widget(given === undefined ? null : given, id), E('div', { 'class': 'cbi-value-description' }, this.help) ]) ]);
		for (const ev of [ 'change', 'input', 'blur' ])
			this.node.addEventListener(ev, () => { this.complaint(id); this.section.show(); }, true);
		return this.node;
	}

	save(id) {
		if (this.node.hidden)
			return uci.set(this.section.map.config, id, this.option, null);
		const v = this.formvalue();
		if (this.write)
			return this.write(id, v);
		uci.set(this.section.map.config, id, this.option, v == this.default && this.rmempty ? null : v);
	}
}

class Value extends Option {
	widget(v) { return E('input', { 'type': this.password ? 'password' : 'text', 'class': 'cbi-input-text', 'value': v === null ? '' : v, 'placeholder': this.placeholder || '' }); }
	formvalue() { return this.node.querySelector('input').value; }
}

class Flag extends Option {
	widget(v) {
		const n = E('input', { 'type': 'checkbox' });
		n.checked = (v === null ? this.default : v) == '1';
		return n;
	}
	formvalue() { return this.node.querySelector('input').checked ? '1' : '0'; }
}

class ListValue extends Option {
	widget(v) {
		const n = E('select', { 'class': 'cbi-input-select' }, this.keylist.map((k, i) => E('option', { 'value': k }, [ this.vallist[i] ])));
		n.value = v === null ? this.default : v;
		return n;
	}
	formvalue() { return this.node.querySelector('select').value; }
}

class DynamicList extends Option {
	widget(v) {
		return E('div', { 'class': 'cbi-dynlist' }, list(v).concat('').map(item => E('input', { 'type': 'text', 'class': 'cbi-input-text', 'value': item, 'placeholder': this.placeholder || '' })));
	}
	formvalue() { return Array.from(this.node.querySelectorAll('input')).map(n => n.value).filter(v => v !== ''); }
}

class DummyValue extends Option {
	widget() { return E('span'); }
	save() {}
	complaint() { return null; }
}

class Button extends DummyValue {
	widget(v, id) { return E('button', { 'class': 'cbi-button', 'click': ev => this.onclick(ev, id) }, [ this.inputtitle ]); }
}

class Section {
	constructor(map, type, title, help) {
		Object.assign(this, { map: map, sectiontype: type, title: title, help: help, children: [], tabs: [] });
	}

	tab(name, title) { this.tabs.push([ name, title ]); }
	option(kind, name, title, help) { return this.taboption(null, kind, name, title, help); }
	super(name, args) { return Object.getPrototypeOf(this)[name].apply(this, args); }
	taboption(tab, kind, name, title, help) {
		const o = new kind(this, tab, name, title, help);
		this.children.push(o);
		return o;
	}

	// show hides what does not apply, and the tabs that are not open.
	show() {
		const value = name => { const o = this.shown.find(v => v.option == name); return o ? o.node.hidden ? '' : o.formvalue() : ''; };
		for (const o of this.shown)
			o.node.hidden = o.deps.length > 0 && !o.deps.some(d => value(d[0]) == d[1]) || o.tab != null && this.tabs.length > 0 && o.tab != this.open && !this.all;
	}

	form(id, options) {
		this.shown = options;
		this.open = this.tabs.length ? this.tabs[0][0] : null;
		const menu = E('ul', { 'class': 'cbi-tabmenu' }, this.tabs.map(t => E('li', {}, [ E('a', { 'href': '#', 'click': ev => { ev.preventDefault(); this.open = t[0]; this.show(); } }, [ t[1] ]) ])));
		const node = E('div', { 'class': 'cbi-section-node' }, [ menu ].concat(options.map(o => o.render(id))));
		this.show();
		return node;
	}

	// save takes over what a form says; what its other tabs hold as well.
	save(id) {
		this.all = true;
		this.show();
		const wrong = this.shown.map(o => o.complaint(id)).find(v => v !== null);
		if (wrong === undefined)
			this.shown.forEach(o => o.save(id));
		this.all = false;
		this.show();
		if (wrong !== undefined)
			throw new Error(wrong);
	}
}

class NamedSection extends Section {
	constructor(map, id, ...more) {
		super(map, ...more);
		this.section = id;
	}

	render() { return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ this.title || '' ]), this.form(this.section, this.children) ]); }
	parse() { this.save(this.section); }
}

class GridSection extends Section {
	ids() { return uci.sections(this.map.config, this.sectiontype).map(s => s['.name']); }
	parse() {}
	handleModalCancel(map, ev, saved) {
		if (this.added && !saved)
			uci.remove(this.map.config, this.added);
		this.added = null;
		ui.hideModal();
	}

	render() {
		const columns = this.children.filter(o => !o.modalonly);
		const cell = (o, id) => {
			const text = o.editable ? o.widget(null, id) : o.textvalue(id);
			return E('td', { 'class': 'td', 'data-name': o.option, 'data-title': o.title }, o.editable ? [ text ] : text);
		};
		return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ this.title ]), E('div', { 'class': 'cbi-section-descr' }, this.help),
			E('table', { 'class': 'table cbi-section-table' }, this.ids().map(id => E('tr', { 'class': 'tr cbi-section-table-row', 'data-sid': id }, [
				E('td', { 'class': 'td' }, [ this.sectiontitle(id) ]) ].concat(columns.map(o => cell(o, id)), [ E('td', { 'class': 'td' }, [
				E('button', { 'class': 'cbi-button cbi-button-edit', 'click': () => this.edit(id) }, [ _('Edit') ]), ' ',
				E('button', { 'class': 'cbi-button cbi-button-remove', 'click': () => this.handleRemove(id) }, [ _('Delete') ]) ]) ])))),
			this.renderSectionAdd ? this.renderSectionAdd() : this.adder() ]);
	}

	adder() {
		const name = E('input', { 'type': 'text', 'class': 'cbi-section-create-name' });
		return E('div', { 'class': 'cbi-section-create' }, [ name, E('button', { 'class': 'cbi-button cbi-button-add', 'click': () => this.handleAdd(null, name.value) }, [ this.addbtntitle || _('Add') ]) ]);
	}

	handleAdd(ev, name) {
		this.added = uci.add(this.map.config, this.sectiontype, name);
		this.edit(name);
	}

	edit(id) {
		const map = new Map(this.map.config), outer = this.map;
		map.parse = () => this.save(id);
		map.reset = () => outer.reset();
		this.addModalOptions({ map: map }, id);
		ui.showModal(this.modaltitle(id), [ this.form(id, this.children.filter(o => o.modalonly)),
			E('div', { 'class': 'button-row' }, [ E('button', { 'class': 'cbi-button', 'click': () => this.handleModalCancel(map, null) }, [ _('Dismiss') ]), ' ',
				E('button', { 'class': 'cbi-button cbi-button-positive', 'click': () => map.save(null, true).then(() => this.handleModalCancel(map, null, true)).catch(() => {}) }, [ _('Save') ]) ]) ]);
	}
}

class Map {
	constructor(config) { Object.assign(this, { config: config, parts: [] }); }
	section(kind, ...args) {
		const s = new kind(this, ...args);
		this.parts.push(s);
		return s;
	}
	parse() { this.parts.forEach(s => s.parse()); }
	render() {
		this.node = E('div', { 'class': 'cbi-map' }, this.parts.map(s => s.render()));
		this.node.map = this;
		return Promise.resolve(this.node);
	}
	reset() {
		if (this.node)
			this.node.replaceChildren(...this.parts.map(s => s.render()));
	}
	save(cb) { return Promise.resolve().then(() => this.parse()).then(cb).then(() => uci.save()).then(() => this.reset()); }
}

const form = { Map: Map, NamedSection: NamedSection, GridSection: GridSection, Value: Value, Flag: Flag, ListValue: ListValue, DynamicList: DynamicList, DummyValue: DummyValue, Button: Button };
return form;
