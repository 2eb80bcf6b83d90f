// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes of elements (linux/netfilter/nf_tables.h).
const (
	newElement     = 12
	deleteElement  = 14
	attrListTable  = 1
	attrListSet    = 2
	attrElements   = 3
	attrKey        = 1
	attrData       = 2
	attrTimeout    = 4
	attrDataValue  = 1
	batchBegin     = 16
	batchEnd       = 17
	nlmsgHeaderLen = 16
)

// Elements adds elements to sets and maps and deletes them, without a process, many
// thousand a second. It is safe for concurrent use.
type Elements struct {
	family byte
	table  string

	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// OpenElements opens the way to a table's sets, which is named as "inet braid".
// It needs CAP_NET_ADMIN.
func OpenElements(table string) (*Elements, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err == nil {
		// The kernel has answered when it has taken a request; if it cannot, for want
		// of memory, nobody waits for ever.
		err = errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
			unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the packet filter's sets: %w", err)
	}
	family, name, _ := strings.Cut(table, " ")
	return &Elements{family: families[family], table: name, fd: fd, buf: make([]byte, 4096)}, nil
}

// Add adds a key to a set, if timeout is not 0 for that long instead of the
// set's own time. A key that is there stays as it is. The error is
// ENFILE when the set is full, and ENOENT when there is none.
func (e *Elements) Add(set string, key []byte, timeout time.Duration) error {
	if err := e.change(newElement, unix.NLM_F_CREATE, set, key, nil, timeout); err != nil {
		return fmt.Errorf("adding to set %s: %w", set, err)
	}
	return nil
}

// Map has a map lead a key to data. One that it leads elsewhere is to be deleted
// before: the error wraps EEXIST.
func (e *Elements) Map(name string, key, data []byte) error {
	if err := e.change(newElement, unix.NLM_F_CREATE, name, key, data, 0); err != nil {
		return fmt.Errorf("adding to map %s: %w", name, err)
	}
	return nil
}

// Delete deletes a key, which need not be there.
func (e *Elements) Delete(set string, key []byte) error {
	if err := e.change(deleteElement, 0, set, key, nil, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("deleting from set %s: %w", set, err)
	}
	return nil
}

// change sends a transaction of one element.
func (e *Elements) change(message uint16, flags int, set string, key, data []byte, timeout time.Duration) error {
	element := nl.NewRtAttr(1|unix.NLA_F_NESTED, nil)
	element.AddRtAttr(attrKey|unix.NLA_F_NESTED, nil).AddRtAttr(attrDataValue, key)
	if data != nil {
		element.AddRtAttr(attrData|unix.NLA_F_NESTED, nil).AddRtAttr(attrDataValue, data)
	}
	if timeout > 0 {
		element.AddRtAttr(attrTimeout, binary.BigEndian.AppendUint64(nil, uint64(timeout.Milliseconds())))
	}
	list := nl.NewRtAttr(attrElements|unix.NLA_F_NESTED, nil)
	list.AddChild(element)
	body := []byte{e.family, 0, 0, 0}
	for _, a := range []*nl.RtAttr{nl.NewRtAttr(attrListTable, nl.ZeroTerminated(e.table)), nl.NewRtAttr(attrListSet, nl.ZeroTerminated(set)), list} {
		body = append(body, a.Serialize()...)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	mark := []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
	b := e.message(nil, batchBegin, 0, mark)
	head := e.seq
	b = e.message(b, unix.NFNL_SUBSYS_NFTABLES<<8|message, flags|unix.NLM_F_ACK, body)
	want := e.seq
	b = e.message(b, batchEnd, 0, mark)
	if err := unix.Sendto(e.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(e.fd, e.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n < nlmsgHeaderLen+4, binary.NativeEndian.Uint16(e.buf[4:]) != unix.NLMSG_ERROR:
			continue
		}
		// A transaction that fails as a whole is answered by its head.
		if seq := binary.NativeEndian.Uint32(e.buf[8:]); seq != want && seq != head {
			continue // of an earlier one
		}
		if code := int32(binary.NativeEndian.Uint32(e.buf[nlmsgHeaderLen:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}

// message appends a netlink message.
func (e *Elements) message(b []byte, kind uint16, flags int, body []byte) []byte {
	e.seq++
	b = binary.NativeEndian.AppendUint32(b, uint32(nlmsgHeaderLen+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, uint16(flags|unix.NLM_F_REQUEST))
	b = binary.NativeEndian.AppendUint32(b, e.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Close ends it.
func (e *Elements) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return unix.Close(e.fd)
}

// Key makes the key of an element whose fields are addresses and ports: each
// is padded to four bytes.
func Key(fields ...netip.AddrPort) (key []byte) {
	for _, f := range fields {
		key = append(key, f.Addr().AsSlice()...)
		key = append(binary.BigEndian.AppendUint16(key, f.Port()), 0, 0)
	}
	return key
}
