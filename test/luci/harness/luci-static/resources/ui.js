// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

// Notices, dialogues, and applying what is saved.

return {
	instantiateView(name) {
		return L.require('view.' + name).then(v => v.__start()).catch(err => {
			console.error(err);
			document.getElementById('view').replaceChildren(E('p', { 'class': 'alert-message error' }, [ String(err) ]));
		});
	},

	createHandlerFn(ctx, fn, ...args) {
		const f = typeof fn == 'string' ? ctx[fn] : fn;
		return ev => {
			const t = ev.currentTarget;
			t.disabled = true;
			return Promise.resolve(f.call(ctx, ...args, ev)).finally(() => { t.disabled = false; });
		};
	},

	addNotification(title, children, kind) {
		const at = document.getElementById('maincontent');
		at.insertBefore(E('div', { 'class': 'alert-message ' + (kind || '') }, [ E('h4', {}, [ title || '' ]), children ]), at.firstChild);
	},

	showModal(title, children) {
		this.hideModal();
		document.body.appendChild(E('div', { 'id': 'modal_overlay' }, [ E('div', { 'class': 'modal cbi-modal', 'role': 'dialog' }, [ E('h4', {}, [ title ]) ].concat(children)) ]));
		document.body.classList.add('modal-overlay-active');
	},

	hideModal() {
		const m = document.getElementById('modal_overlay');
		if (m)
			m.remove();
		document.body.classList.remove('modal-overlay-active');
	},

	changes: {
		apply(checked) {
			return fetch(L.url('admin/uci', checked ? 'apply_rollback' : 'apply_unchecked'), { method: 'POST' }).then(() => setTimeout(() => location.reload(), 500));
		}
	}
};
