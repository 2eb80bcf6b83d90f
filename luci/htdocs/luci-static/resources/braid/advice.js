// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

'use strict';
'require baseclass';
'require braid.valid as valid';

// What a user ought to know, and the way out. Pure.

function list(v) {
	return v == null || v === '' ? [] : Array.isArray(v) ? v : String(v).split(' ');
}

// metrics groups WANs by the metric of their interfaces' default routes.
function sameMetric(wans, network) {
	const seen = {}, twins = [];
	for (const w of wans) {
		const names = list(w.interface), i = names.length ? network[names[0]] : null;
		if (!i)
			continue;
		const metric = i.metric || '0';
		if (seen[metric])
			twins.push([ seen[metric], w['.name'] ]);
		seen[metric] = seen[metric] || w['.name'];
	}
	return twins;
}

return baseclass.extend({
	list,

	// unused are the interfaces of the router that could be a line: not the LAN,
	// not a loopback, not dynamic children, and of no WAN yet. dump is what
	// network.interface dump answers, lan what globals.lan says.
	unused(dump, wans, lan) {
		const taken = { loopback: true };
		for (const w of wans)
			for (const name of list(w.interface))
				taken[name] = true;
		for (const name of lan)
			taken[name] = true;
		const devices = {};
		for (const i of dump)
			if (taken[i.interface] && i.l3_device)
				devices[i.l3_device] = true;
		const found = [];
		for (const i of dump) {
			if (taken[i.interface] || i.dynamic || i.l3_device == 'lo' || devices[i.l3_device])
				continue;
			if (i.l3_device)
				devices[i.l3_device] = true; // wan6 beside wan belongs to it unasked
			found.push(i);
		}
		return found;
	},

	// cellular guesses the kind of an interface as the agent does.
	cellular(i) {
		return [ 'modemmanager', 'qmi', 'mbim', 'ncm', '3g', 'wwan' ].includes(i.proto) || /^(wwan|wwp|rmnet|usb|cdc)/.test(i.l3_device || i.device || '');
	},

	// advise lists {level, text, remedy}. sections are those of the
	// configuration by type; status, network (interfaces by name, as UCI has
	// them) and zones (of the firewall) may be null: not known.
	advise(sections, status, network, zones) {
		const found = [], say = (level, text, remedy) => found.push({ level, text, remedy });
		const globals = sections.globals[0] || {}, wans = sections.wan.filter(w => w.role != 'off'), on = valid.on(globals.enabled, true);
		if (status && status.kernel.mptcp === false)
			say('error', _('The kernel has no Multipath TCP.'), _('Install a firmware that has it, as OpenWrt 24.10 and later do on all but the smallest routers.'));
		if (wans.length == 0)
			say('error', _('There is no line.'), _('Add the network interfaces of your lines below.'));
		else if (wans.length == 1)
			say('notice', _('There is only one line.'), _('A second one makes the difference: add it below.'));
		if (sections.converter.length == 0)
			say('warning', _('There is no converter.'), _('Only servers that speak Multipath TCP use several lines then, and few do. Run braid-mcp on a rented server and add it below.'));
		if (!on)
			say('notice', _('braid is switched off.'), _('Switch it on under General when lines and converter are set.'));
		if (network)
			for (const pair of sameMetric(wans, network))
				say('warning', _('%s and %s have the same gateway metric.').format(pair[0], pair[1]),
					_('Only one of them gets a default route: give each a metric of its own under Network > Interfaces.'));
		if (network && zones)
			for (const w of wans)
				for (const name of list(w.interface))
					if (network[name] && !zones.some(z => list(z.network).includes(name)))
						say('error', _('%s is in no firewall zone.').format(name),
							_('Nothing is forwarded to it: put it into the zone wan under Network > Firewall.'));
		return found;
	}
});
