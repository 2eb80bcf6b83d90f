// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require view';
'require poll';
'require view.status.include.45_braid as card';

// The overview with the one card that is looked at.

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() { return card.load(); },
	render(data) {
		const at = E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ card.title ]), card.render(data) ]);
		poll.add(() => card.load().then(d => at.replaceChild(card.render(d), at.lastChild)));
		return at;
	}
});
