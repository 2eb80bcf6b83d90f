// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"encoding/binary"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// appendRule adds a rule behind all of its preference, also where there is one
// like it, which the library's RuleAdd refuses (NLM_F_EXCL).
func appendRule(r *netlink.Rule) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_ACK)
	msg := nl.NewRtMsg()
	msg.Family, msg.Table, msg.Type = uint8(r.Family), unix.RT_TABLE_UNSPEC, unix.FR_ACT_TO_TBL
	number := func(attr int, v uint32) *nl.RtAttr {
		return nl.NewRtAttr(attr, binary.NativeEndian.AppendUint32(nil, v))
	}
	attrs := []*nl.RtAttr{number(unix.FRA_PRIORITY, uint32(r.Priority)), number(unix.FRA_TABLE, uint32(r.Table))}
	if r.Src != nil {
		bits, _ := r.Src.Mask.Size()
		msg.Src_len = uint8(bits)
		attrs = append(attrs, nl.NewRtAttr(unix.FRA_SRC, r.Src.IP))
	}
	if r.Dst != nil {
		bits, _ := r.Dst.Mask.Size()
		msg.Dst_len = uint8(bits)
		attrs = append(attrs, nl.NewRtAttr(unix.FRA_DST, r.Dst.IP))
	}
	if r.Mask != nil {
		attrs = append(attrs, number(unix.FRA_FWMARK, r.Mark), number(unix.FRA_FWMASK, *r.Mask))
	}
	if r.IifName != "" {
		attrs = append(attrs, nl.NewRtAttr(unix.FRA_IIFNAME, nl.ZeroTerminated(r.IifName)))
	}
	if r.OifName != "" {
		attrs = append(attrs, nl.NewRtAttr(unix.FRA_OIFNAME, nl.ZeroTerminated(r.OifName)))
	}
	if r.Dport != nil {
		ports := binary.NativeEndian.AppendUint16(nil, r.Dport.Start)
		attrs = append(attrs, nl.NewRtAttr(unix.FRA_DPORT_RANGE, binary.NativeEndian.AppendUint16(ports, r.Dport.End)))
	}
	if r.SuppressPrefixlen >= 0 {
		attrs = append(attrs, number(unix.FRA_SUPPRESS_PREFIXLEN, uint32(r.SuppressPrefixlen)))
	}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
