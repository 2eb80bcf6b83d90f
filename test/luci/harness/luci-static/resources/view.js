// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// A view loads, renders into #view, and has buttons below it for what it
// handles.

const view = baseclass.extend({
	__start() {
		return Promise.resolve(this.load ? this.load() : null).then(data => this.render(data)).then(nodes => {
			const at = document.getElementById('view'), actions = [];
			const button = (name, kind, label) => {
				if (this[name])
					actions.push(E('button', { 'class': 'btn cbi-button cbi-button-' + kind, 'click': () => this[name]() }, [ label ]), ' ');
			};
			button('handleSaveApply', 'apply', _('Save & Apply'));
			button('handleSave', 'save', _('Save'));
			button('handleReset', 'reset', _('Reset'));
			at.replaceChildren(nodes);
			if (actions.length)
				at.appendChild(E('div', { 'class': 'cbi-page-actions' }, actions));
		});
	},

	handleSave() { return Promise.all(Array.from(document.querySelectorAll('#maincontent .cbi-map')).map(n => n.map.save())); },
	handleSaveApply() {},
	handleReset() { document.querySelectorAll('#maincontent .cbi-map').forEach(n => n.map.reset()); }
});
view.isKit = true;
return view;
