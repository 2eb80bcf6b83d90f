// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nft speaks to nftables by the text that `nft -f -` takes.
package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Error is a run of nft that went wrong.
type Error struct {
	Err    error
	Output string // what nft said
}

func (e *Error) Error() string {
	said, _, _ := strings.Cut(strings.TrimSpace(e.Output), "\n")
	return fmt.Sprintf("running nft: %v: %s", e.Err, said)
}

func (e *Error) Unwrap() error { return e.Err }

// Absent says that what nft was to look at is not there.
func Absent(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && strings.Contains(failed.Output, "No such file")
}

// Run runs nft with args, and input for those that read it: with "-f", "-" as one
// transaction. The error of a run that went wrong is an *Error.
func Run(ctx context.Context, input string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", &Error{err, errs.String()}
	}
	return out.String(), nil
}

// headerLen is that of struct nfgenmsg, in bytes.
const headerLen = 4

// Generation is a number that changes with every change of any ruleset
// (NFT_MSG_GETGEN, kernel 3.13).
func Generation() (uint32, error) {
	const (
		getGeneration = 16
		attrID        = 1
	)
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	r.AddRawData([]byte{unix.AF_UNSPEC, 0, 0, 0})
	var answer [512]byte
	n, errno := ask(unix.NETLINK_NETFILTER, r.Serialize(), answer[:])
	if errno != 0 {
		return 0, errno
	}
	msgs, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil || len(msgs) != 1 {
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

// ask sends a request to a part of the kernel and reads the answer, which is there when
// the request has been taken. It is for what is asked each second: the library takes 64 kB
// of memory for an answer, and to tell Go's runtime of a system call wakes its
// monitor, which costs more than the call where nothing waits.
func ask(family int, request, answer []byte) (n int, errno unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, uintptr(family))
	if errno != 0 {
		return 0, errno
	}
	_, _, errno = unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(request))), uintptr(len(request)))
	if errno == 0 {
		var got uintptr
		got, _, errno = unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(answer))), uintptr(len(answer)), unix.MSG_DONTWAIT, 0, 0)
		n = int(got)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return n, errno
}
