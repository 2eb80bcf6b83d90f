// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// SyslogSocket is where syslog's daemons listen, OpenWrt's logd among them.
const SyslogSocket = "/dev/log"

// syslogPatience is how long an event waits for a daemon that does not read.
const syslogPatience = 100 * time.Millisecond

// daemonFacility is what syslog(3) calls LOG_DAEMON.
const daemonFacility = 3 << 3

// severities are syslog's, of each level from Debug on.
var severities = [...]int{7, 6, 4, 3}

// NewSyslog makes a log whose events go to the syslog daemon at a socket, which
// keeps level and time itself, so that the lines are without them. While there
// is none, they are written to w as those of New. The name is the program's.
//
// What writes standard error into syslog for a program, as procd does, has one
// level for all lines, and a second time on each.
func NewSyslog(socket, name string, w io.Writer) *Log {
	return &Log{w: w, syslog: &syslog{socket: socket, name: name}}
}

// syslog speaks to the daemon as syslog(3) does (RFC 3164, by a datagram).
type syslog struct {
	socket, name string
	conn         net.Conn // nil: none yet, or lost
}

// send reports whether the daemon has got it.
func (s *syslog) send(level Level, text []byte) bool {
	priority := daemonFacility | severities[min(max(level, Debug), Error)-Debug]
	b := fmt.Appendf(nil, "<%d>%s %s[%d]: ", priority, time.Now().Format(time.Stamp), s.name, os.Getpid())
	b = append(b, text...)
	// A daemon that was started anew has another socket at the same place.
	return s.conn != nil && s.write(b) || s.dial() && s.write(b)
}

func (s *syslog) dial() bool {
	conn, err := net.Dial("unixgram", s.socket)
	if err == nil {
		s.conn = conn
	}
	return err == nil
}

func (s *syslog) write(b []byte) bool {
	s.conn.SetWriteDeadline(time.Now().Add(syslogPatience))
	_, err := s.conn.Write(b)
	if err != nil {
		s.conn.Close()
		s.conn = nil
	}
	return err == nil
}
