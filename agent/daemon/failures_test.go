// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"testing"
	"time"
)

// Two errors that last, each met between the other, are told once each; one that comes
// back is told again.
func TestFailuresLast(t *testing.T) {
	f := make(failures)
	rule, route := errors.New("adding rule"), errors.New("adding route")
	now, told := time.Now(), map[error]int{}
	for range 60 {
		for _, err := range []error{rule, nil, route} {
			if f.note(err, now) {
				told[err]++
			}
		}
		now = now.Add(time.Second)
	}
	if told[rule] != 1 || told[route] != 1 {
		t.Errorf("told %d and %d times in a minute", told[rule], told[route])
	}
	if now = now.Add(lasting); !f.note(rule, now) || f.note(nil, now) {
		t.Error("one that has come back is not told")
	}
}
