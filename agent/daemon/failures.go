// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import "time"

// lasting is how soon an error that lasts is met again: what fails is tried again
// with each look, which is once a second or so.
const lasting = 10 * time.Second

// failures are the errors met within that time, by what they say, and when last: one
// that lasts is told once, also where others come between.
type failures map[string]time.Time

// note says whether an error is to be told.
func (f failures) note(err error, now time.Time) (fresh bool) {
	for text, met := range f {
		if now.Sub(met) > lasting {
			delete(f, text)
		}
	}
	if err == nil {
		return false
	}
	_, met := f[err.Error()]
	f[err.Error()] = now
	return !met
}
