// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';

// The picture: which boxes there are, and the lines between them. Pure: boxes
// are measured and lines drawn elsewhere.

// flow is how thick a line of so many bit/s is, in pixels: what is ten times as
// much is twice as thick.
function flow(rate) {
	return rate < 1000 ? 1.5 : Math.min(12, Math.round(10 * (2 + 2 * Math.log10(rate / 1000))) / 10);
}

function curve(from, to, upright) {
	const r = Math.round;
	if (upright) {
		const mid = (from.y + to.y) / 2;
		return 'M' + r(from.x) + ',' + r(from.y) + 'C' + r(from.x) + ',' + r(mid) + ' ' + r(to.x) + ',' + r(mid) + ' ' + r(to.x) + ',' + r(to.y);
	}
	const mid = (from.x + to.x) / 2;
	return 'M' + r(from.x) + ',' + r(from.y) + 'C' + r(mid) + ',' + r(from.y) + ' ' + r(mid) + ',' + r(to.y) + ' ' + r(to.x) + ',' + r(to.y);
}

// Points on the edges of a box {x, y, w, h}, at a part of their length.
function leaving(b, upright, at) {
	return upright ? { x: b.x + b.w * at, y: b.y + b.h } : { x: b.x + b.w, y: b.y + b.h * at };
}

function entering(b, upright, at) {
	return upright ? { x: b.x + b.w * at, y: b.y } : { x: b.x, y: b.y + b.h * at };
}

return baseclass.extend({
	flow,

	// converters are the boxes of the converters: one for each name, although
	// the agent tells of each address; that of one which answers, if one does.
	converters(status) {
		const named = name => status.converters.filter(c => c.name == name);
		return status.converters.filter(c => c == (named(c.name).find(o => o.state == 'up') || named(c.name)[0]));
	},

	// straight is the part of all bytes that went past every converter, 0 to 1.
	straight(status) {
		const b = status.bytes, all = b.rx + b.tx;
		return all > 0 && b.direct > 0 ? Math.min(1, b.direct / all) : 0;
	},

	// carries says whether new traffic takes a WAN now.
	carries(w) {
		return (w.state == 'up' || w.state == 'degraded') && w.effective_role != 'off';
	},

	// wires are the lines, by the boxes as they lie: lan, gateway, internet, and
	// wan:NAME and converter:NAME of each. upright is top to bottom.
	wires(boxes, status, upright) {
		const wires = [], total = { rx: 0, tx: 0 }, converters = this.converters(status), straight = this.straight(status);
		const asked = converters.filter(c => !c.wan), best = asked.find(c => c.state == 'up') || asked[0], hub = best && boxes['converter:' + best.name];
		const wire = (key, from, a, to, b, rate, state) => {
			if (from && to)
				wires.push({ key, d: curve(leaving(from, upright, a), entering(to, upright, b), upright),
					width: flow(rate), moving: rate >= 1000, state });
		};
		const n = status.wans.length, place = i => (i + 1) / (n + 1);
		status.wans.forEach((w, i) => {
			const box = boxes['wan:' + w.name], rate = w.rx_rate + w.tx_rate, state = this.carries(w) ? w.state : w.state == 'off' ? 'off' : 'down';
			total.rx += w.rx_rate;
			total.tx += w.tx_rate;
			wire('in:' + w.name, boxes.gateway, place(i), box, 0.5, rate, state);
			if (hub)
				wire('out:' + w.name, box, 0.5, hub, place(i), rate * (1 - straight), best.state == 'up' ? state : 'down');
			const on = converters.find(c => c.wan == w.name), via = on && boxes['converter:' + on.name];
			wire('via:' + w.name, box, hub ? 0.8 : 0.5, via, 0.5, hub ? 0 : rate, state);
			wire('past:' + w.name, via, 0.5, boxes.internet, hub ? 0.85 : place(i), hub ? 0 : rate, state);
			if (!via && (!hub || straight > 0))
				wire('straight:' + w.name, box, hub ? 0.8 : 0.5, boxes.internet, hub ? 0.85 : place(i), rate * (hub ? straight : 1), state);
		});
		const sum = total.rx + total.tx;
		wire('lan', boxes.lan, 0.5, boxes.gateway, 0.5, sum, 'up');
		if (hub)
			wire('far', hub, 0.5, boxes.internet, 0.5, sum * (1 - straight), best.state == 'up' ? 'up' : 'down');
		return wires;
	}
});
