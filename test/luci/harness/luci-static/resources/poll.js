// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

// One clock for all who want to be called again and again; who has not come
// back yet is not called.

const queue = [];
let tick = 0, timer = null;

return {
	add(fn, interval) { queue.push({ fn: fn, interval: interval || L.env.pollinterval, busy: false }); },
	start() {
		timer = timer || setInterval(() => {
			tick++;
			for (const q of queue) {
				if (tick % q.interval || q.busy)
					continue;
				q.busy = true;
				Promise.resolve(q.fn()).finally(() => { q.busy = false; });
			}
		}, 1000);
	},
	stop() {
		clearInterval(timer);
		timer = null;
	}
};
