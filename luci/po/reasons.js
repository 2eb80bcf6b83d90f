// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Words of the agent that the pages pass through the translation as they come.
// This file is read by those who collect what is to be translated, and not
// shipped. Reasons that hold names or figures stay as they are.

_('primary');
_('bond');
_('overflow');
_('backup');
_('off');
_('fixed');
_('cellular');
_('home');
_('roaming');
_('searching');
_('denied');
_('idle');
_('emergency');
_('restricted');
_('absent');
_('locked');
_('failed');
_('unknown');
_('switched off');
_('set until the configuration changes');
_('stands in for the primary');
_('on trial');
_('there is room on the WANs above it');
_('its round trip is much longer than the others\', on trial when they are full');
_('its probes are not answered');
_('a rule says so');
_('it is not known yet whether the server speaks MPTCP');
_('the server does not speak MPTCP');
_('the server speaks MPTCP, and every WAN reaches it');
_('the server speaks MPTCP, but takes no second subflow');
_('no converter is configured');
_('no converter answers');
_('no WAN reaches the server\'s address family');
_('only TCP is intercepted');
_('nothing is intercepted now');
_('the destination is in the LAN');
_('the destination is a converter');
_('the destination is the gateway itself');
_('the destination is no address that is forwarded to');
_('QUIC is refused, as block_quic says');
_('the destination is on a WAN\'s own private network');
_('it could not be reached lately, and what goes there is forwarded for a while');
_('other connections belong to one to this port, which the packet filter sees only where it is forwarded');
