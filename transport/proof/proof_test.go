// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"braid/transport/convert"
)

var (
	secret  = bytes.Repeat([]byte{7}, 32)
	connect = convert.Message{TLVs: []convert.TLV{convert.NewConnect(netip.MustParseAddrPort("192.0.2.80:443"), convert.KindMPTCP)}}
	info    = convert.Message{TLVs: []convert.TLV{convert.Info{}}}
	can     = convert.Reply(convert.SupportedTCPExtensions{Kinds: []byte{convert.KindMPTCP}})
)

// converter is the far side with one holder.
type converter struct {
	Issuer
	Holder
}

func newConverter(run uint64) *converter {
	return &converter{Issuer: Issuer{run: run}, Holder: Holder{Key: NewKey(secret)}}
}

func (c *converter) check(t *testing.T, b []byte) (Verdict, convert.Message) {
	t.Helper()
	m, n, err := convert.Parse(b)
	if err != nil || n != len(b) {
		t.Fatalf("what was proved: %d of %d bytes, %v", n, len(b), err)
	}
	return c.Check(&c.Issuer, b, m), m
}

func prove(t *testing.T, c *Client, m convert.Message) Request {
	t.Helper()
	r, err := c.Prove(m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer has a request judged and answered as the server does.
func (c *converter) answer(t *testing.T, r Request) (Verdict, []byte) {
	t.Helper()
	v, m := c.check(t, r.Bytes)
	var b []byte
	var err error
	if _, asks := convert.Find[convert.Info](m); asks {
		b, err = c.Grant(&c.Issuer, v, m, can)
	} else {
		b, err = c.Refuse(&c.Issuer, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v, b
}

// ready is a client that has asked with Info.
func ready(t *testing.T, c *converter) *Client {
	t.Helper()
	cl := NewClient(secret)
	r := prove(t, cl, info)
	v, b := c.answer(t, r)
	if err := r.Hear(b); err != nil || v != First || !cl.Ready() {
		t.Fatalf("first contact: %v, %v", v, err)
	}
	return cl
}

func TestFirstContact(t *testing.T) {
	c := newConverter(1)
	cl := NewClient(secret)
	if cl.Ready() {
		t.Error("a ticket before anything was asked")
	}
	r := prove(t, cl, connect)
	v, b := c.answer(t, r)
	if v != First {
		t.Errorf("a Connect without a ticket is %v", v)
	}
	if err := r.Hear(b); err != nil || !cl.Ready() {
		t.Fatalf("error 3: %v", err)
	}
	if v, _ := c.check(t, prove(t, cl, connect).Bytes); v != Fresh {
		t.Errorf("with the ticket: %v", v)
	}
}

// A sniffer finds nothing of the secret in what is sent.
func TestSecretStaysHome(t *testing.T) {
	c := newConverter(1)
	cl := ready(t, c)
	for range 10 {
		b := prove(t, cl, connect).Bytes
		for n := range len(b) - 4 {
			if bytes.Contains(secret, b[n:n+4]) {
				t.Fatalf("secret in %x", b)
			}
		}
	}
}

func TestReplay(t *testing.T) {
	c := newConverter(1)
	cl := ready(t, c)
	r := prove(t, cl, connect)
	if v, _ := c.check(t, r.Bytes); v != Fresh {
		t.Fatalf("at first: %v", v)
	}
	if v, _ := c.check(t, r.Bytes); v != Replayed {
		t.Errorf("again: %v", v)
	}
	for range width {
		c.check(t, prove(t, cl, connect).Bytes)
	}
	if v, _ := c.check(t, r.Bytes); v != Stale {
		t.Errorf("long after: %v", v)
	}
	// Another converter with this key, or this one after a restart.
	other := newConverter(2)
	ready(t, other)
	unused := prove(t, cl, connect)
	if v, _ := other.check(t, unused.Bytes); v != Stale {
		t.Errorf("in another run: %v", v)
	}
	// What the replayer is answered opens nothing to him.
	thief := NewClient([]byte("another secret, as long"))
	v, answer := c.answer(t, unused)
	unused.client = thief
	if err := unused.Hear(answer); v != Fresh || !errors.Is(err, ErrForged) {
		t.Errorf("hearing another's answer: %v, %v", v, err)
	}
}

// Every bit of a message counts.
func TestForger(t *testing.T) {
	c := newConverter(1)
	cl := ready(t, c)
	r := prove(t, cl, connect)
	for at := range r.Bytes {
		for bit := range 8 {
			b := bytes.Clone(r.Bytes)
			b[at] ^= 1 << bit
			m, _, err := convert.Parse(b)
			if err != nil {
				continue // not even a message
			}
			if v := c.Check(&c.Issuer, b, m); v != Wrong {
				t.Errorf("with bit %d of byte %d turned: %v", bit, at, v)
			}
		}
	}
	if v, _ := c.check(t, r.Bytes); v != Fresh {
		t.Errorf("unchanged: %v", v)
	}
	stranger := NewClient(bytes.Repeat([]byte{8}, 32))
	if v, _ := c.check(t, prove(t, stranger, connect).Bytes); v != Wrong {
		t.Errorf("another's key: %v", v)
	}
	clear, err := convert.Message{TLVs: []convert.TLV{convert.Info{}, convert.Cookie{Value: secret}}}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := c.check(t, clear); v != Wrong {
		t.Errorf("the secret itself: %v", v)
	}
}

// Only the converter's own answer to this very request is heard.
func TestFakeConverter(t *testing.T) {
	c := newConverter(1)
	cl := NewClient(secret)
	r1, r2 := prove(t, cl, info), prove(t, cl, info)
	_, b1 := c.answer(t, r1)
	if err := r2.Hear(b1); !errors.Is(err, ErrForged) {
		t.Errorf("the answer to another request: %v", err)
	}
	for at := range b1 {
		b := bytes.Clone(b1)
		b[at] ^= 1
		if err := r1.Hear(b); err == nil {
			t.Errorf("with byte %d changed it is heard", at)
		}
	}
	// A request sent back, as if it were an answer.
	if err := r1.Hear(r1.Bytes); !errors.Is(err, ErrForged) {
		t.Errorf("reflected: %v", err)
	}
	fake := newConverter(9)
	fake.Key = NewKey(bytes.Repeat([]byte{8}, 32))
	fake.Key.ID = c.Key.ID
	m, _, _ := convert.Parse(r1.Bytes)
	b, err := fake.Refuse(&fake.Issuer, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := r1.Hear(b); !errors.Is(err, ErrForged) || cl.Ready() {
		t.Errorf("of another key: %v", err)
	}
	if err := r1.Hear(b1); err != nil || !cl.Ready() {
		t.Errorf("the true answer: %v", err)
	}
}

// A hundred requests under way when the converter restarts agree on a ticket.
func TestRestart(t *testing.T) {
	cl := ready(t, newConverter(1))
	c := newConverter(2)
	var under [100]Request
	for i := range under {
		under[i] = prove(t, cl, connect)
	}
	var running sync.WaitGroup
	for _, r := range under {
		v, b := c.answer(t, r)
		if v != Stale {
			t.Fatalf("before a new ticket: %v", v)
		}
		running.Go(func() {
			if err := r.Hear(b); err != nil {
				t.Error(err)
			}
			again, err := cl.Prove(connect)
			if err != nil {
				t.Error(err)
				return
			}
			m, _, _ := convert.Parse(again.Bytes)
			if v := c.Check(&c.Issuer, again.Bytes, m); v != Fresh {
				t.Errorf("with the new ticket: %v", v)
			}
		})
	}
	running.Wait()
	if len(c.used) != 1 {
		t.Errorf("%d tickets are in use", len(c.used))
	}
}

// Replayed first contacts push out nobody's ticket and take no memory.
func TestFlood(t *testing.T) {
	c := newConverter(1)
	cl := ready(t, c)
	first := prove(t, NewClient(secret), info)
	used := prove(t, cl, info)
	c.answer(t, used)
	for range 10000 {
		c.answer(t, first)
		c.answer(t, used)
	}
	if len(c.used) != 1 {
		t.Errorf("%d tickets are remembered", len(c.used))
	}
	if v, _ := c.check(t, prove(t, cl, connect).Bytes); v != Fresh {
		t.Errorf("the client meanwhile: %v", v)
	}
}

// Gateways with the same key do not disturb each other, as far as they are
// remembered; who was forgotten gets a new ticket, and what he sent with the
// old one holds no more.
func TestTickets(t *testing.T) {
	c := newConverter(1)
	var cls [tickets + 1]*Client
	for i := range cls {
		cls[i] = ready(t, c)
	}
	var old Request
	for i, cl := range cls[:tickets] {
		r := prove(t, cl, connect)
		if i == 0 {
			old = r
		}
		if v, _ := c.check(t, r.Bytes); v != Fresh {
			t.Errorf("gateway %d: %v", i, v)
		}
	}
	late := ready(t, c) // asks before, connects after it is the oldest
	for _, cl := range []*Client{cls[tickets], cls[1], cls[tickets], late} {
		if v, _ := c.check(t, prove(t, cl, connect).Bytes); v != Fresh {
			t.Errorf("a younger one: %v", v)
		}
	}
	if v, _ := c.check(t, old.Bytes); v != Stale {
		t.Errorf("a replay of what was forgotten: %v", v)
	}
	r := prove(t, cls[0], connect)
	v, b := c.answer(t, r)
	if err := r.Hear(b); v != Stale || err != nil {
		t.Errorf("the oldest: %v, %v", v, err)
	}
	if v, _ := c.check(t, prove(t, cls[0], connect).Bytes); v != Fresh {
		t.Errorf("the oldest with a new ticket: %v", v)
	}
	if len(c.used) != tickets {
		t.Errorf("%d tickets are remembered", len(c.used))
	}
}

// A converter that does not know the key cannot pass for one that does.
func TestAnswerWithoutProof(t *testing.T) {
	r := prove(t, NewClient(secret), info)
	b, err := can.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Hear(b); !errors.Is(err, ErrForged) {
		t.Errorf("an answer to Info without proof: %v", err)
	}
	if err := (Request{}).Hear(b); err != nil {
		t.Errorf("where nothing was proved: %v", err)
	}
}

// Each converter has a count of its own, and a changed key a new one.
func TestWallet(t *testing.T) {
	var w Wallet
	c := newConverter(1)
	a, b := Credentials{Converter: "a", Key: secret}, Credentials{Converter: "b", Key: secret}
	r, err := w.Request(a, info)
	if err != nil {
		t.Fatal(err)
	}
	if _, answer := c.answer(t, r); r.Hear(answer) != nil || !w.client(a).Ready() || w.client(b).Ready() {
		t.Error("a ticket of one is that of all")
	}
	for _, tt := range []struct {
		c    Credentials
		want convert.Message
	}{
		{Credentials{Cookie: secret}, convert.Request(connect.TLVs[0].(convert.Connect), secret)},
		{Credentials{}, connect},
	} {
		r, err := w.Request(tt.c, connect)
		want, _ := tt.want.Append(nil)
		if err != nil || !bytes.Equal(r.Bytes, want) || r.Hear(nil) != nil {
			t.Errorf("%x, %v, want %x", r.Bytes, err, want)
		}
	}
}

func TestAnswerWithTicketStays(t *testing.T) {
	c := newConverter(1)
	cl := ready(t, c)
	before := cl.ticket
	for range 3 {
		r := prove(t, cl, info)
		v, b := c.answer(t, r)
		if err := r.Hear(b); v != Fresh || err != nil || cl.ticket != before {
			t.Errorf("%v, %v, ticket %v after %v", v, err, cl.ticket, before)
		}
	}
}

// What is on the wire stays what it is: the other end may be of another year.
func TestWire(t *testing.T) {
	cl := NewClient(secret)
	cl.ticket, cl.counter = Ticket{0x0102030405060708, 9}, 10
	const want = "01142263" +
		"0a0601bb00000000000000000000ffffc00002501e020000" +
		"160d0000" + "01" + "19f5800fb71e2b" + "0102030405060708" + "0000000000000009" + "000000000000000a" +
		"9a092fd36128e7755eb1692cbd4ba63f" // by Python's hashlib
	if got := hex.EncodeToString(prove(t, cl, connect).Bytes); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// FuzzCheck holds that nobody without the key is taken for who has it, whatever
// he makes of the bytes of who has.
func FuzzCheck(f *testing.F) {
	c := &converter{Issuer: Issuer{run: 1}, Holder: Holder{Key: NewKey(secret)}}
	c.serial.Store(100)
	cl := NewClient(secret)
	cl.ticket = Ticket{1, 1}
	for range 3 {
		r, err := cl.Prove(connect)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.Bytes)
	}
	r, err := cl.Prove(info)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Bytes)
	stranger := NewKey(bytes.Repeat([]byte{8}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := convert.Parse(b)
		if err != nil {
			return
		}
		h := Holder{Key: stranger}
		h.Key.ID = c.Key.ID // as if the ids were the same
		if v := h.Check(&c.Issuer, b[:n], m); v != Wrong {
			t.Errorf("%v with another key", v)
		}
		before := bytes.Clone(b)
		c.Check(&c.Issuer, b[:n], m)
		if !bytes.Equal(before, b) {
			t.Error("checking has changed the message")
		}
		if _, proof := KeyID(carried(m)); proof {
			for _, answer := range []func() ([]byte, error){
				func() ([]byte, error) { return h.Grant(&c.Issuer, First, m, can) },
				func() ([]byte, error) { return h.Refuse(&c.Issuer, m) },
			} {
				if _, err := answer(); err != nil {
					t.Error(err)
				}
			}
		}
		Request{client: cl}.Hear(b)
	})
}

func BenchmarkCheck(b *testing.B) {
	c := newConverter(1)
	cl := NewClient(secret)
	c.serial.Store(1)
	cl.ticket = Ticket{1, 1}
	r, err := cl.Prove(connect)
	if err != nil {
		b.Fatal(err)
	}
	m, _, err := convert.Parse(r.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Check(&c.Issuer, r.Bytes, m)
	}
}
