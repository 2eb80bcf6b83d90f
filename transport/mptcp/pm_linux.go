// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// Endpoint is an address that the in-kernel path manager uses or announces
// (kernel 5.6). Endpoints belong to the network namespace of the caller.
type Endpoint struct {
	ID     uint8 // 1..255; 0 on adding: the kernel's choice
	Addr   netip.Addr
	Port   uint16 // of its own, announced with it: the kernel listens there (kernel 5.12); 0: none
	Device int    // interface index; 0: any
	Flags  EndpointFlags
}

// EndpointFlags says what an endpoint is for.
type EndpointFlags uint32

// The flags (MPTCP_PM_ADDR_FLAG_*).
const (
	FlagSignal   EndpointFlags = 1 << iota // announced to the peer by ADD_ADDR
	FlagSubflow                            // a subflow is opened from it
	FlagBackup                             // used when no other subflow works
	FlagFullmesh                           // a subflow to every address of the peer, announced ones included
	FlagImplicit                           // made by the kernel
)

// Limits bound what one connection may have (kernel 5.6).
type Limits struct {
	Subflows         int // beside the first, 0..8
	AddAddrsAccepted int // announced addresses that are used, 0..8
}

// Commands and attributes of the generic netlink family mptcp_pm.
const (
	pmAddEndpoint = 1
	pmDelEndpoint = 2
	pmGetEndpoint = 3
	pmSetLimits   = 5
	pmGetLimits   = 6
	pmSetFlags    = 7

	pmAttrEndpoint = 1
	pmAttrAddAddrs = 2
	pmAttrSubflows = 3

	epAttrFamily = 1
	epAttrID     = 2
	epAttrAddr4  = 3
	epAttrAddr6  = 4
	epAttrPort   = 5
	epAttrFlags  = 6
	epAttrDevice = 7
)

// Endpoints lists the endpoints. Without MPTCP in the kernel the error wraps
// os.ErrNotExist, as it does for all that follow.
func Endpoints() ([]Endpoint, error) {
	msgs, err := pmRequest(pmGetEndpoint, unix.NLM_F_DUMP)
	if err != nil {
		return nil, fmt.Errorf("listing MPTCP endpoints: %w", err)
	}
	var eps []Endpoint
	for _, m := range msgs {
		for _, a := range attributes(m[nl.SizeofGenlmsg:]) {
			if a.Attr.Type&nl.NLA_TYPE_MASK == pmAttrEndpoint {
				eps = append(eps, parseEndpoint(a.Value))
			}
		}
	}
	return eps, nil
}

// AddEndpoint adds an endpoint; open connections use it at once, within the
// limits.
func AddEndpoint(e Endpoint) error {
	if _, err := pmRequest(pmAddEndpoint, unix.NLM_F_ACK, e.attr()); err != nil {
		return fmt.Errorf("adding MPTCP endpoint %d %v: %w", e.ID, e.Addr, err)
	}
	return nil
}

// DeleteEndpoint deletes an endpoint and closes its subflows; the peers are
// told by RM_ADDR.
func DeleteEndpoint(e Endpoint) error {
	if _, err := pmRequest(pmDelEndpoint, unix.NLM_F_ACK, e.attr()); err != nil {
		return fmt.Errorf("deleting MPTCP endpoint %d %v: %w", e.ID, e.Addr, err)
	}
	return nil
}

// SetEndpointFlags changes FlagBackup and FlagFullmesh of an endpoint; open
// connections tell their peers by MP_PRIO.
func SetEndpointFlags(e Endpoint) error {
	if _, err := pmRequest(pmSetFlags, unix.NLM_F_ACK, e.attr()); err != nil {
		return fmt.Errorf("changing MPTCP endpoint %d %v: %w", e.ID, e.Addr, err)
	}
	return nil
}

// GetLimits reads the limits.
func GetLimits() (Limits, error) {
	msgs, err := pmRequest(pmGetLimits, 0)
	if err != nil {
		return Limits{}, fmt.Errorf("reading MPTCP limits: %w", err)
	}
	var l Limits
	for _, m := range msgs {
		for _, a := range attributes(m[nl.SizeofGenlmsg:]) {
			if len(a.Value) < 4 {
				continue
			}
			switch a.Attr.Type & nl.NLA_TYPE_MASK {
			case pmAttrAddAddrs:
				l.AddAddrsAccepted = int(native.Uint32(a.Value))
			case pmAttrSubflows:
				l.Subflows = int(native.Uint32(a.Value))
			}
		}
	}
	return l, nil
}

// SetLimits changes the limits of connections to come.
func SetLimits(l Limits) error {
	_, err := pmRequest(pmSetLimits, unix.NLM_F_ACK,
		nl.NewRtAttr(pmAttrAddAddrs, nl.Uint32Attr(uint32(l.AddAddrsAccepted))),
		nl.NewRtAttr(pmAttrSubflows, nl.Uint32Attr(uint32(l.Subflows))))
	if err != nil {
		return fmt.Errorf("setting MPTCP limits %+v: %w", l, err)
	}
	return nil
}

// pmFamily is the number of the family mptcp_pm, which the kernel does not change
// while it runs; 0: it has not been asked for. A kernel that has none, which MPTCP is no
// module of, looks for one each time that it is asked.
var pmFamily atomic.Uint32

const pmAbsent = 1 << 31

func pmRequest(cmd uint8, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	switch pmFamily.Load() {
	case pmAbsent:
		return nil, fmt.Errorf("no MPTCP in this kernel: %w", os.ErrNotExist)
	case 0:
		msgs, err := request(nl.GENL_ID_CTRL, 0, nl.GENL_CTRL_CMD_GETFAMILY, nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated("mptcp_pm")))
		if errors.Is(err, unix.ENOENT) {
			pmFamily.Store(pmAbsent)
			return pmRequest(cmd, flags, attrs...)
		}
		if err != nil {
			return nil, err
		}
		for _, a := range attributes(msgs[0][nl.SizeofGenlmsg:]) {
			if a.Attr.Type == nl.GENL_CTRL_ATTR_FAMILY_ID {
				pmFamily.Store(uint32(native.Uint16(a.Value)))
			}
		}
	}
	return request(int(pmFamily.Load()), flags, cmd, attrs...)
}

// request asks a family of generic netlink.
func request(family, flags int, cmd uint8, attrs ...*nl.RtAttr) ([][]byte, error) {
	r := nl.NewNetlinkRequest(family, flags)
	r.AddData(&nl.Genlmsg{Command: cmd, Version: 1})
	for _, a := range attrs {
		r.AddData(a)
	}
	return exchange(r)
}

// exchange sends a request and returns what the kernel answers. It does what the
// library's Execute does, which takes 64 kB of memory for each answer. The kernel has
// answered when it has taken a request, so no answer is waited for.
func exchange(r *nl.NetlinkRequest) ([][]byte, error) {
	fd, err := call.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	defer call.Close(fd)
	write := unix.Write // what is to be changed waits for connections, and for a grace period of RCU
	if r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
		write = call.Write
	}
	if _, err := write(fd, r.Serialize()); err != nil {
		return nil, err
	}
	var buf [8 << 10]byte // the most that the kernel puts into one answer to whoever asks for no more
	var answers [][]byte
	for {
		n, err := call.Receive(fd, buf[:])
		if err != nil {
			return nil, err
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			switch {
			case m.Header.Type == unix.NLMSG_DONE, m.Header.Type == unix.NLMSG_ERROR:
				if e := -int32(native.Uint32(m.Data)); e > 0 {
					return nil, unix.Errno(e)
				}
				return answers, nil
			}
			answers = append(answers, slices.Clone(m.Data))
			if m.Header.Flags&unix.NLM_F_MULTI == 0 && r.Flags&unix.NLM_F_ACK == 0 {
				return answers, nil
			}
		}
	}
}

func (e Endpoint) attr() *nl.RtAttr {
	a := nl.NewRtAttr(pmAttrEndpoint|unix.NLA_F_NESTED, nil)
	if e.ID != 0 {
		a.AddRtAttr(epAttrID, nl.Uint8Attr(e.ID))
	}
	switch {
	case e.Addr.Is4():
		a.AddRtAttr(epAttrFamily, nl.Uint16Attr(unix.AF_INET))
		a.AddRtAttr(epAttrAddr4, e.Addr.AsSlice())
	case e.Addr.Is6():
		a.AddRtAttr(epAttrFamily, nl.Uint16Attr(unix.AF_INET6))
		a.AddRtAttr(epAttrAddr6, e.Addr.AsSlice())
	}
	if e.Port != 0 {
		a.AddRtAttr(epAttrPort, nl.Uint16Attr(e.Port))
	}
	a.AddRtAttr(epAttrFlags, nl.Uint32Attr(uint32(e.Flags)))
	if e.Device != 0 {
		a.AddRtAttr(epAttrDevice, nl.Uint32Attr(uint32(e.Device)))
	}
	return a
}

func parseEndpoint(b []byte) Endpoint {
	var e Endpoint
	for _, a := range attributes(b) {
		v := a.Value
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case epAttrID:
			e.ID = v[0]
		case epAttrAddr4, epAttrAddr6:
			e.Addr, _ = netip.AddrFromSlice(v)
		case epAttrPort:
			e.Port = native.Uint16(v)
		case epAttrFlags:
			e.Flags = EndpointFlags(native.Uint32(v))
		case epAttrDevice:
			e.Device = int(native.Uint32(v))
		}
	}
	return e
}

// attributes reads a list of netlink attributes. What the kernel sends is
// well-formed; anything else reads as an empty list.
func attributes(b []byte) []syscall.NetlinkRouteAttr {
	as, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	return as
}
