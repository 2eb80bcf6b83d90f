// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package ubus speaks OpenWrt's ubus: a client that calls, publishes and
// listens, and a broker for systems without ubusd.
//
// Facts are those of OpenWrt's libubox (blob.h, blobmsg.h) and ubus
// (ubusmsg.h, libubus, ubusd) as of 2025. File descriptors are not passed.
//
// # Values
//
// A message is a table. [Marshal] writes structs and maps, following the json
// tags of encoding/json, so that a value has the same form on ubus as in JSON:
//
//	Go                              blobmsg   in JSON
//	struct, map with string keys    table     object; map keys sorted
//	slice, array                    array     array
//	string, encoding.TextMarshaler  string    string
//	bool                            int8      true, false
//	int8 to int32, uint8, uint16    int32     number
//	int, uint, uint32               int32     number; int64 where int32 is too small
//	int64, uint64                   int64     number; above 1<<63 - 1 an error
//	float32, float64                double    number; NaN and infinities are errors
//	nil pointer, slice, map         unspec    null
//
// The ubus command prints an int8 as true or false, whatever its maker meant,
// so no Go integer becomes one; it prints a double with six decimals. Not
// accepted: []byte, strings with a NUL, the string option of a tag, types with
// a MarshalJSON and no MarshalText.
//
// [Unmarshal] reads the same back into structs and maps. Into an any go
// map[string]any, []any, string, int64 (of every integer type but int8), bool
// (int8), float64 and nil.
package ubus

import "time"

const (
	// DefaultSocket is where OpenWrt's ubusd listens.
	DefaultSocket = "/var/run/ubus/ubus.sock"

	// MaxMessage is the largest message in bytes, without its 8-byte header
	// (UBUS_MAX_MSGLEN).
	MaxMessage = 1 << 20

	// MaxDepth is how deep tables and arrays may be nested.
	MaxDepth = 32

	// DefaultTimeout bounds calls whose context has no deadline: ubusd never
	// answers for an object that went away during the call.
	DefaultTimeout = 30 * time.Second
)
