// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// headerLen is that of struct nfgenmsg, in bytes.
const headerLen = 4

// askAgain is after how long a kernel that has not answered yet is asked again: where it has no
// nf_tables, it looks for the module each time.
const askAgain = 10 * time.Second

// Ruleset is the kernel's. The zero value is ready; it is for one goroutine, and for who
// asks again and again: it keeps its socket, whose close would wait for whoever is
// changing the ruleset.
type Ruleset struct {
	_      [0]func() // nobody compares it
	fd     int       // of the socket; 0: there is none yet
	there  bool      // it has answered
	asked  time.Time // when it has not
	failed error     // and why
}

// Generation is a number that changes with every change of any ruleset
// (NFT_MSG_GETGEN, kernel 3.13).
func (r *Ruleset) Generation() (uint32, error) {
	if !r.there && time.Since(r.asked) < askAgain {
		return 0, r.failed
	}
	gen, err := r.ask()
	if r.there = r.there || err == nil; !r.there {
		r.asked, r.failed = time.Now(), err
	}
	if err != nil && r.fd > 0 {
		unix.Close(r.fd)
		r.fd = 0
	}
	return gen, err
}

func (r *Ruleset) ask() (uint32, error) {
	const (
		getGeneration = 16
		attrID        = 1
	)
	q := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	q.AddRawData([]byte{unix.AF_UNSPEC, 0, 0, 0})
	if err := r.send(q.Serialize()); err != nil {
		return 0, err
	}
	// The kernel has answered when it has taken the request.
	var b [512]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(r.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	msgs, err := syscall.ParseNetlinkMessage(b[:n])
	if err != nil || len(msgs) != 1 || msgs[0].Header.Seq != q.Seq {
		return 0, errors.Join(errors.New("no answer"), err)
	}
	m := msgs[0]
	if m.Header.Type == unix.NLMSG_ERROR {
		return 0, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	}
	if len(m.Data) >= headerLen {
		attrs, err := nl.ParseRouteAttr(m.Data[headerLen:])
		if err != nil {
			return 0, err
		}
		for _, a := range attrs {
			if a.Attr.Type == attrID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("no generation in the answer")
}

// send sends a request. The first one may have the kernel load a module; Go's runtime is
// not told of the others, which do not wait, for it would wake its monitor for each.
func (r *Ruleset) send(b []byte) (err error) {
	if r.fd > 0 {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(r.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != 0 {
			return errno
		}
		return nil
	}
	if r.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER); err == nil {
		_, err = unix.Write(r.fd, b)
	}
	return err
}
