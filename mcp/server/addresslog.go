// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"net/netip"
	"os"
	"sync"
	"time"

	"braid/transport/journal"
)

// addressLog writes who had which address and port of the converter's towards
// which server, and when, as who shares addresses may have to know (RFC 6888
// section 4). The file is opened anew after a reload: the host's tools rotate
// it. The zero value is ready.
type addressLog struct {
	mu   sync.Mutex
	name string
	file *os.File
	bad  seldom
}

// record is a line of it.
type record struct {
	Began  time.Time      `json:"began"`
	Ended  time.Time      `json:"ended"`
	Client string         `json:"client"`
	From   netip.AddrPort `json:"from"`
	Source netip.AddrPort `json:"source"` // the converter's, towards the server
	Server netip.AddrPort `json:"server"`
	Up     uint64         `json:"up"`
	Down   uint64         `json:"down"`
}

// write notes a connection that has ended; an empty name is nowhere.
func (l *addressLog) write(name string, se *session, log *journal.Log) {
	if name == "" {
		return
	}
	b, err := json.Marshal(record{
		Began: se.began.UTC(), Ended: time.Now().UTC(), Client: se.account.name,
		From: se.client.Remote, Source: se.far.Local, Server: se.remote,
		Up: se.pair.AToB.Load(), Down: se.pair.BToA.Load(),
	})
	if err == nil {
		err = l.append(name, append(b, '\n'))
	}
	if err != nil {
		l.bad.warn(log, "writing address log", "error", err)
	}
}

func (l *addressLog) append(name string, b []byte) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || l.name != name {
		l.closeLocked()
		if l.file, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640); err != nil {
			return err
		}
		l.name = name
	}
	_, err = l.file.Write(b)
	return err
}

// close has the next line open the file anew.
func (l *addressLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

func (l *addressLog) closeLocked() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
