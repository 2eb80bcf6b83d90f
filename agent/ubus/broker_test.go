// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func statusOf(m message) Status {
	at := m.attributes()
	if m.kind != kindStatus || !at.has(attrStatus) {
		return ^statusOK
	}
	return Status(at.u32(attrStatus))
}

func TestBrokerRefuses(t *testing.T) {
	path := newServer(t)
	others := publish(t, dialTest(t, path), calc("calc"))
	cn, err := others.c.conn()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := cn.idOf(others)
	nc := rawDial(t, path)
	own := exchange(t, nc, message{kind: kindAddObject})
	if m, err := readMessage(nc, maxReceived); err != nil || statusOf(m) != statusOK {
		t.Fatal(m, err)
	}
	ownAt := own.attributes()
	ownID := ownAt.u32(attrObjID)

	object := func(id uint32) []byte { return appendAttr32(nil, attrObjID, id) }
	target := func(id, target uint32) []byte { return appendAttr32(object(id), attrTarget, target) }
	event := func(method string, v any) []byte {
		data, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return invocation(eventObject, method, data, false)
	}
	type reg struct {
		Object  int32  `json:"object"`
		Pattern string `json:"pattern"`
	}
	tests := []struct {
		name string
		kind kind
		body []byte
		want Status
	}{
		{"hello", kindHello, nil, ErrInvalidCommand},
		{"monitor", kindMonitor, nil, ErrInvalidCommand},
		{"unknown", 200, nil, ErrInvalidCommand},
		{"monitor object", kindInvoke, invocation(3, "add", nil, false), ErrNotFound},
		{"malformed", kindInvoke, unhex(t, "03 000001"), ErrInvalidArgument},
		{"object id of two bytes", kindInvoke, unhex(t, "03 000006 0001 0000  04 000006 7800 0000"), ErrInvalidArgument},
		{"method without NUL", kindInvoke, append(object(id), unhex(t, "04 000008 61616161")...), ErrInvalidArgument},
		{"empty path", kindLookup, appendAttrString(nil, attrObjPath, ""), ErrInvalidArgument},
		{"malformed signature", kindAddObject, unhex(t, "02 000006 7800 0000  06 000008 ffffffff"), ErrInvalidArgument},
		{"taken path", kindAddObject, appendAttrString(nil, attrObjPath, "calc"), ErrInvalidArgument},
		{"removing nothing", kindRemoveObject, nil, ErrInvalidArgument},
		{"removing the absent", kindRemoveObject, object(5), ErrNotFound},
		{"removing another's", kindRemoveObject, object(id), ErrPermissionDenied},
		{"notifying for nothing", kindNotify, nil, ErrInvalidArgument},
		{"notifying for the absent", kindNotify, invocation(5, "x", nil, false), ErrNotFound},
		{"notifying for another's", kindNotify, invocation(id, "x", nil, false), ErrPermissionDenied},
		{"subscribing nothing", kindSubscribe, object(ownID), ErrInvalidArgument},
		{"subscribing the absent", kindSubscribe, target(5, id), ErrNotFound},
		{"subscribing another's", kindSubscribe, target(id, id), ErrInvalidArgument},
		{"subscribing to the absent", kindSubscribe, target(ownID, 5), ErrNotFound},
		{"subscribing to oneself", kindSubscribe, target(ownID, ownID), ErrInvalidArgument},
		{"subscribing", kindSubscribe, target(ownID, id), statusOK},
		{"subscribing twice", kindSubscribe, target(ownID, id), statusOK},
		{"unsubscribing nothing", kindUnsubscribe, nil, ErrInvalidArgument},
		{"unsubscribing the absent", kindUnsubscribe, target(5, id), ErrNotFound},
		{"unsubscribing another's", kindUnsubscribe, target(id, ownID), ErrInvalidArgument},
		{"unsubscribing", kindUnsubscribe, target(ownID, id), statusOK},
		{"unsubscribing twice", kindUnsubscribe, target(ownID, id), ErrNotFound},
		{"listening without arguments", kindInvoke, event("register", nil), ErrInvalidArgument},
		{"listening for the daemon", kindInvoke, event("register", reg{1, "x"}), ErrPermissionDenied},
		{"listening for the absent", kindInvoke, event("register", reg{2000, "x"}), ErrNotFound},
		{"listening for another's", kindInvoke, event("register", reg{int32(id), "x"}), ErrPermissionDenied},
		{"listening to nothing", kindInvoke, event("register", reg{int32(ownID), ""}), ErrPermissionDenied},
		{"listening", kindInvoke, event("register", reg{int32(ownID), "x"}), statusOK},
		{"sending without arguments", kindInvoke, event("send", nil), ErrInvalidArgument},
		{"other method of the daemon", kindInvoke, event("x", nil), ErrInvalidCommand},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seq := uint16(i + 100)
			m := exchange(t, nc, message{kind: tt.kind, seq: seq, peer: 77, body: tt.body})
			if got := statusOf(m); got != tt.want || m.seq != seq || m.peer != 77 {
				t.Errorf("got %+v (%v), want %v", m, got, tt.want)
			}
		})
	}
	// Answers for others' objects are not passed on, nor answered.
	caller, callerID := rawHello(t, path)
	for _, m := range []message{
		{kind: kindStatus, peer: callerID, body: appendAttr32(object(id), attrStatus, 0)},
		{kind: kindData, peer: callerID, body: appendAttr(object(id), attrData, nil)},
	} {
		if _, err := nc.Write(m.append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range []net.Conn{nc, caller} {
		ping := message{kind: kindPing, seq: 9, peer: 8, body: object(1)}
		if m := exchange(t, nc, ping); m.kind != kindData || m.seq != 9 || !bytes.Equal(m.body, ping.body) {
			t.Errorf("pong is %+v", m)
		}
	}
}

// TestNoReply: the flag reaches the object, which then does not answer.
func TestNoReply(t *testing.T) {
	path := newServer(t)
	server := dialTest(t, path)
	calledC := make(chan struct{}, 1)
	p := publish(t, server, Object{Path: "o", Methods: []Method{{
		Name: "m",
		Handle: func(context.Context, *Request) (any, error) {
			calledC <- struct{}{}
			return sum{}, nil
		},
	}}})
	cn, err := server.conn()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := cn.idOf(p)
	nc := rawDial(t, path)
	if _, err := nc.Write(message{kind: kindInvoke, seq: 1, peer: id, body: invocation(id, "m", nil, true)}.append(nil)); err != nil {
		t.Fatal(err)
	}
	receive(t, "the call", calledC)
	m := exchange(t, nc, message{kind: kindInvoke, seq: 2, peer: id, body: invocation(id, "m", nil, false)})
	if m.seq != 2 {
		t.Errorf("got %+v, want the answer to the second call only", m)
	}
}

func TestBrokerDisconnects(t *testing.T) {
	path := newServer(t)
	tests := map[string][]byte{
		"version":   unhex(t, "01 03 0001 00000000 00000004"),
		"too short": unhex(t, "00 03 0001 00000000 00000003"),
		"too long":  unhex(t, "00 03 0001 00000000 00100001"),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			nc := rawDial(t, path)
			if _, err := nc.Write(b); err != nil {
				t.Fatal(err)
			}
			if m, err := readMessage(nc, maxReceived); err == nil {
				t.Errorf("got %+v, want the end", m)
			}
		})
	}
}

// TestSlowConsumer: a client that does not read is cut off, and nobody else
// notices.
func TestSlowConsumer(t *testing.T) {
	path := newServer(t)
	nc := rawDial(t, path)
	own := exchange(t, nc, message{kind: kindAddObject})
	at := own.attributes()
	if _, err := readMessage(nc, maxReceived); err != nil {
		t.Fatal(err)
	}
	args, err := Marshal(map[string]any{"object": int32(at.u32(attrObjID)), "pattern": "*"})
	if err != nil {
		t.Fatal(err)
	}
	if m := exchange(t, nc, message{kind: kindInvoke, body: invocation(eventObject, "register", args, false)}); statusOf(m) != statusOK {
		t.Fatal(m)
	}

	const events = 400
	var total atomic.Int64
	allC := make(chan struct{})
	if _, err := dialTest(t, path).Listen("big", func(e Event) {
		if total.Add(int64(1+e.Lost)) == events {
			close(allC)
		}
	}); err != nil {
		t.Fatal(err)
	}
	sender := dialTest(t, path)
	v := map[string]string{"s": strings.Repeat("x", 50_000)}
	for range events {
		if err := sender.Send(t.Context(), "big", v); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "all events at the client that reads", allC)

	// What was under way still arrives, then the connection ends.
	n, err := io.Copy(io.Discard, nc)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	if n > maxQueue+1<<20 {
		t.Errorf("%d bytes were kept for a client that did not read", n)
	}
}

// TestPermission: others than root and the broker's own user are turned away
// before the hello.
func TestPermission(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to become somebody else")
	}
	path := newServer(t)
	for dir := filepath.Dir(path); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("socket is %v, %v, want mode 0666", fi.Mode(), err)
	}
	errC := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its user
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			errC <- errno
			return
		}
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err == nil {
			err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		}
		if err != nil {
			errC <- err
			return
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		if _, err = readMessage(f, maxReceived); err == nil {
			err = errors.New("was let in")
		}
		errC <- err
	}()
	if err := receive(t, "the refusal", errC); !errors.Is(err, io.EOF) {
		t.Errorf("nobody got %v, want EOF", err)
	}
	rawDial(t, path) // root is let in
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "ubus.sock")
	stop := startBroker(t, path)
	if err := NewBroker(path).Run(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second broker: error %v, want EADDRINUSE", err)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after the end: %v", err)
	}

	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	startBroker(t, path) // in place of a socket left behind
	rawDial(t, path)

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewBroker(file).Run(t.Context()); err == nil {
		t.Error("took the place of a file")
	}
	if b, err := os.ReadFile(file); string(b) != "keep" {
		t.Errorf("file is %q, %v", b, err)
	}
}

// FuzzBroker: no sequence of messages makes the broker panic or forget that a
// client has gone.
func FuzzBroker(f *testing.F) {
	var talk []byte
	for _, m := range []message{
		{kind: kindAddObject, body: unhex(f, "02 000006 7800 0000  06 000004")},
		{kind: kindAddObject},
		{kind: kindLookup},
		{kind: kindInvoke, body: invocation(eventObject, "send", unhex(f, "83 00000a 0002 6964 00 000000 7800 0000 82 00000c 0004 64617461 00 00"), false)},
		{kind: kindSubscribe, body: unhex(f, "03 000008 00000000 08 000008 00000001")},
		{kind: kindNotify, body: invocation(0, "x", nil, false)},
	} {
		talk = m.append(talk)
	}
	f.Add(talk)
	f.Fuzz(func(t *testing.T, b []byte) {
		br := NewBroker("")
		var ps [2]*peer
		var ids []uint32
		for i := range ps {
			here, there := net.Pipe()
			defer here.Close()
			defer there.Close()
			ps[i] = &peer{id: uint32(i), nc: here, wakeC: make(chan struct{}, 1), closedC: make(chan struct{}), objects: map[uint32]*object{}}
			br.peers[ps[i].id] = ps[i]
		}
		r := bytes.NewReader(b)
		for i := 0; ; i++ {
			m, err := readMessage(r, maxReceived)
			if err != nil {
				break
			}
			// Small numbers stand for the objects made so far, whose ids are random.
			for at := 0; at+8 <= len(m.body); at += 4 {
				if id := m.body[at]; (id == attrObjID || id == attrTarget) && int(m.body[at+7]) < len(ids) {
					copy(m.body[at+4:], appendAttr32(nil, 0, ids[m.body[at+7]])[4:])
				}
			}
			br.handleLocked(ps[i%2], m)
			ids = ids[:0]
			for id := range br.objects {
				ids = append(ids, id)
			}
		}
		for _, p := range ps {
			for _, o := range p.objects {
				br.freeLocked(o)
			}
		}
		if len(br.objects)+len(br.paths)+len(br.types) != 0 {
			t.Errorf("left: %d objects, %d paths, %d types", len(br.objects), len(br.paths), len(br.types))
		}
	})
}
