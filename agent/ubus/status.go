// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import "fmt"

// Status is the outcome of a request, as it crosses the wire (enum
// ubus_msg_status). All but 0 are errors, to be compared with errors.Is.
type Status uint32

// The statuses other than success.
const (
	ErrInvalidCommand Status = iota + 1
	ErrInvalidArgument
	ErrMethodNotFound
	ErrNotFound
	ErrNoData
	ErrPermissionDenied
	ErrTimeout
	ErrNotSupported
	ErrUnknown
	ErrConnectionFailed
	ErrNoMemory
	ErrParse
	ErrSystem
)

const statusOK Status = 0

var statusText = [...]string{
	statusOK:            "success",
	ErrInvalidCommand:   "invalid command",
	ErrInvalidArgument:  "invalid argument",
	ErrMethodNotFound:   "method not found",
	ErrNotFound:         "not found",
	ErrNoData:           "no data",
	ErrPermissionDenied: "permission denied",
	ErrTimeout:          "timed out",
	ErrNotSupported:     "not supported",
	ErrUnknown:          "unknown error",
	ErrConnectionFailed: "connection failed",
	ErrNoMemory:         "out of memory",
	ErrParse:            "malformed message",
	ErrSystem:           "system error",
}

func (s Status) Error() string {
	if int(s) < len(statusText) {
		return statusText[s]
	}
	return fmt.Sprintf("status %d", uint32(s))
}

// err is nil for success.
func (s Status) err() error {
	if s == statusOK {
		return nil
	}
	return s
}
