// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"io"
	"math"
	"time"
)

// ErrorCode says what went wrong (RFC 8803, section 6.2.8). The ranges: 0–31
// bad messages, 32–63 the client, 64–95 the converter, 96–127 the server.
type ErrorCode uint8

// The error codes of version 1.
const (
	UnsupportedVersion     ErrorCode = 0  // value: the versions the sender speaks
	MalformedMessage       ErrorCode = 1  // value: a zero byte, the message
	UnsupportedMessage     ErrorCode = 2  // value: a zero byte, the message
	MissingCookie          ErrorCode = 3  // value: a zero byte, a cookie to show from now on
	NotAuthorized          ErrorCode = 32 // value: zero
	UnsupportedTCPOption   ErrorCode = 33 // value: the kinds
	ResourceExceeded       ErrorCode = 64 // value: seconds to wait, 0 for the default
	NetworkFailure         ErrorCode = 65 // value: seconds to wait, 0 for the default
	ConnectionReset        ErrorCode = 96 // value: zero
	DestinationUnreachable ErrorCode = 97 // value: the ICMP code
)

// NoRoute is the code of [DestinationUnreachable] by which a network cannot be
// reached: Net Unreachable of ICMP (RFC 792), no route to destination of ICMPv6
// (RFC 4443). A converter that has no route itself answers with it.
const NoRoute = 0

// DefaultRetry is how long a client holds off after [ResourceExceeded] or
// [NetworkFailure] when the converter names no delay.
const DefaultRetry = 30 * time.Second

func (c ErrorCode) String() string {
	switch c {
	case UnsupportedVersion:
		return "Unsupported Version"
	case MalformedMessage:
		return "Malformed Message"
	case UnsupportedMessage:
		return "Unsupported Message"
	case MissingCookie:
		return "Missing Cookie"
	case NotAuthorized:
		return "Not Authorized"
	case UnsupportedTCPOption:
		return "Unsupported TCP Option"
	case ResourceExceeded:
		return "Resource Exceeded"
	case NetworkFailure:
		return "Network Failure"
	case ConnectionReset:
		return "Connection Reset"
	case DestinationUnreachable:
		return "Destination Unreachable"
	}
	return "unknown error"
}

// Error is a converter's answer to what it could not do (section 6.2.8). The
// client resets the connection that it came on.
type Error struct {
	Code ErrorCode
	// Value is what follows Code, padding included; its layout depends on Code.
	Value []byte
}

// RetryError is a [ResourceExceeded] or [NetworkFailure] that asks the client
// to hold off for wait, which is rounded up to a second and to at most 255 s.
// A wait of 0 stands for [DefaultRetry].
func RetryError(code ErrorCode, wait time.Duration) Error {
	s := min(max(math.Ceil(wait.Seconds()), 0), math.MaxUint8)
	return Error{Code: code, Value: []byte{byte(s)}}
}

// RetryAfter is how long the converter wants the client to hold off. It is 0
// when e is neither [ResourceExceeded] nor [NetworkFailure].
func (e Error) RetryAfter() time.Duration {
	if e.Code != ResourceExceeded && e.Code != NetworkFailure {
		return 0
	}
	if s := e.first(); s > 0 {
		return time.Duration(s) * time.Second
	}
	return DefaultRetry
}

// ICMPCode is the code of the ICMP or ICMPv6 error that ended the attempt; ok
// is false when e is not [DestinationUnreachable].
func (e Error) ICMPCode() (code uint8, ok bool) {
	if e.Code != DestinationUnreachable {
		return 0, false
	}
	return e.first(), true
}

// Cookie is the cookie that the converter made for the client; ok is false when
// e is not [MissingCookie] or holds none.
func (e Error) Cookie() (c Cookie, ok bool) {
	if e.Code != MissingCookie || len(e.Value) < 2 {
		return Cookie{}, false
	}
	return Cookie{Value: e.Value[1:]}, true
}

// Kinds lists the TCP options that the converter refused. It is nil when e is
// not [UnsupportedTCPOption].
func (e Error) Kinds() []byte {
	if e.Code != UnsupportedTCPOption {
		return nil
	}
	return trimZeros(e.Value)
}

func (e Error) first() byte {
	if len(e.Value) == 0 {
		return 0
	}
	return e.Value[0]
}

func (e Error) Error() string {
	s := fmt.Sprintf("converter: %v (%d)", e.Code, uint8(e.Code))
	switch e.Code {
	case UnsupportedVersion:
		return fmt.Sprintf("%s, it speaks %d", s, trimZeros(e.Value))
	case UnsupportedTCPOption:
		return fmt.Sprintf("%s, kinds %d", s, e.Kinds())
	case ResourceExceeded, NetworkFailure:
		return fmt.Sprintf("%s, retry after %v", s, e.RetryAfter())
	case DestinationUnreachable:
		return fmt.Sprintf("%s, ICMP code %d", s, e.first())
	}
	return s
}

// Type returns [TypeError].
func (Error) Type() Type { return TypeError }

func (e Error) appendValue(b []byte) ([]byte, error) {
	return append(append(b, byte(e.Code)), e.Value...), nil
}

func parseError(v []byte) (TLV, error) {
	return Error{Code: ErrorCode(v[0]), Value: v[1:]}, nil
}

// echo returns the Error that shows a client the message it sent (section
// 6.2.8, figure 23), cut where the reply would not fit into a message.
func echo(code ErrorCode, msg []byte) *Error {
	const room = MaxLen - headerLen - word
	v := make([]byte, 1, 1+min(len(msg), room))
	return &Error{Code: code, Value: append(v, msg[:min(len(msg), room)]...)}
}

// ProtocolError says why a message cannot be taken.
type ProtocolError struct {
	Reason string
	// Reply is what a converter answers before it closes. It is nil when the
	// peer is to be reset without an answer: what it sent is not Convert, holds
	// nothing, or has a Total Length of zero. A client never answers: it resets.
	Reply *Error
}

func (e *ProtocolError) Error() string {
	if e.Reply == nil {
		return "bad Convert message: " + e.Reason
	}
	return fmt.Sprintf("%v: %s", e.Reply.Code, e.Reason)
}

func malformed(msg []byte, format string, args ...any) error {
	return &ProtocolError{
		Reason: fmt.Sprintf(format, args...),
		Reply:  echo(MalformedMessage, msg),
	}
}

// ShortError says that more bytes are needed. It unwraps to
// [io.ErrUnexpectedEOF].
type ShortError struct {
	// Need is the length of the message as far as it can be told, in bytes from
	// its start: that of the fixed header until it is there, then the whole.
	Need int
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("Convert message is cut: %d bytes needed", e.Need)
}

func (e *ShortError) Unwrap() error { return io.ErrUnexpectedEOF }
