// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package lab is the world in which braid is tested and demonstrated, made of network
// namespaces of the running kernel.
//
//	             lan0          fibre  ______  gw        core
//	host --------------- gateway ----(_link_)---- fibre ------ core ------ converter
//	192.168.1.20      .1    |  198.51.100.2  .1   (ISP)          |  |      192.0.2.10
//	2001:db8:1::20   ::1    |  2001:db8:f::2 ::1                 |  |      2001:db8:10::10
//	                        |                                    |  |
//	                        |  lte    ______  gw        core     |  +----- server
//	                        +--------(_link_)---- lte -----------+         192.0.2.80
//	                           100.64.0.2    .1   (carrier, CGNAT:         2001:db8:80::80
//	                           2001:db8:c::2 ::1   203.0.113.1)
//
// The gateway forwards, has a default route for each access network (metric 10, 20, ...) and
// masquerades IPv4 on each. The prefix of the LAN, 2001:db8:1::/64, is routed to it by the first
// fixed ISP; a carrier routes only the gateway's own IPv6 address. No access network forwards a
// source address that it would not route back (BCP 38), and a carrier translates RFC 6598
// addresses to its one public address.
//
// Access networks can be added and shaped as Options says. The further ones with public IPv4
// have 198.18.1.0/24, ...; those with private IPv4 100.64.1.0/24, ... behind 203.0.113.2, ...;
// fixed ones 2001:db8:f:1::/64, ...; cellular ones 2001:db8:c:1::/64, ...
//
// An access network with NAT64 has its public IPv4 address, 203.0.113.129, ..., behind its own
// prefix. It runs tayga, and tells of the prefix by router advertisements and DNS.
//
// The namespaces are called braid-PID-N-NAME, so that `ip netns exec braid-PID-N-gw sh` enters
// the gateway of a running World.
package lab
