// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Traffic is what a device has received and sent: bytes, and packets.
type Traffic struct{ RX, TX, RXPackets uint64 }

// Counters reads what the kernel counts, many times a second at little cost: the
// files stay open. The zero value is ready; it is for one goroutine.
type Counters struct{ dev, snmp kept }

// Traffic reads the traffic of all devices, by name; nil where
// /proc/net/dev cannot be read.
func (c *Counters) Traffic() map[string]Traffic {
	text, err := c.dev.read("/proc/self/net/dev")
	if err != nil {
		return nil
	}
	all := make(map[string]Traffic)
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, newline)
		// name: bytes packets errs drop fifo frame compressed multicast bytes ...
		name, rest, ok := bytes.Cut(line, colon)
		if !ok {
			continue
		}
		var t Traffic
		for column := range 9 {
			var f []byte
			switch f, rest = field(rest); column {
			case 0:
				t.RX = number(f)
			case 1:
				t.RXPackets = number(f)
			case 8:
				t.TX = number(f)
			}
		}
		all[string(bytes.TrimLeft(name, " "))] = t
	}
	return all
}

// Retransmissions counts the segments that TCP has sent again, over whatever
// device, those of MPTCP's subflows among them (RFC 4022, tcpRetransSegs); 0 where
// /proc/net/snmp cannot be read.
func (c *Counters) Retransmissions() uint64 {
	text, _ := c.snmp.read("/proc/self/net/snmp")
	// A line of names comes before that of values, each of which begins with "Tcp:".
	_, text, _ = bytes.Cut(text, tcp)
	names, text, _ := bytes.Cut(text, newline)
	_, values, _ := bytes.Cut(text, colon)
	values, _, _ = bytes.Cut(values, newline)
	for len(names) > 0 {
		var name, value []byte
		name, names = field(names)
		value, values = field(values)
		if string(name) == "RetransSegs" {
			return number(value)
		}
	}
	return 0
}

var newline, colon, tcp = []byte("\n"), []byte(":"), []byte("\nTcp:")

// field is the first field of a line, and what comes after it.
func field(line []byte) (first, rest []byte) {
	line = bytes.TrimLeft(line, " ")
	end := bytes.IndexByte(line, ' ')
	if end < 0 {
		end = len(line)
	}
	return line[:end], line[end:]
}

// number is 0 for what is none.
func number(field []byte) uint64 {
	n, _ := strconv.ParseUint(string(field), 10, 64)
	return n
}

// kept is a file of /proc that is read again and again.
type kept struct {
	file *os.File // nil: it has not been opened yet
	fd   uintptr  // of file
	buf  []byte
}

// page is the least that a processor has, in bytes.
const page = 4 << 10

// read reads the file from its beginning; what it returns holds until the next call.
func (k *kept) read(name string) ([]byte, error) {
	if k.file == nil {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		k.file, k.fd, k.buf = f, f.Fd(), make([]byte, page)
	}
	length := 0
	for {
		n, err := pread(k.fd, k.buf[length:], length)
		if err != nil {
			return nil, err
		}
		length += n
		// The kernel stops where the next line does not fit a page, or at the end.
		if n == 0 || length < page/2 {
			return k.buf[:length], nil
		}
		if length == len(k.buf) {
			k.buf = append(k.buf, make([]byte, length)...)
		}
	}
}

// pread reads what need not be waited for, which is why the runtime is not told of it:
// its monitor, which looks for calls that take long, would wake up for each. The kernel
// takes the offset of preadv(2) in the same two registers on all processors.
func pread(fd uintptr, b []byte, offset int) (int, error) {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	n, _, e := unix.RawSyscall6(unix.SYS_PREADV, fd, uintptr(unsafe.Pointer(&iov)), 1, uintptr(offset), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
