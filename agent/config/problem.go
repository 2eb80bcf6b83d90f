// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import "errors"

// Problem is something wrong with a configuration. It is an error whose text
// is path:section.option: message.
type Problem struct {
	Path    string // of the file
	Section string // as the uci command writes it; empty: the file
	Option  string // empty: the section
	Message string // the reason
	Warning bool   // the configuration is valid all the same
}

func (p Problem) Error() string {
	where := p.Path
	if p.Section != "" {
		where += ":" + p.Section
	}
	if p.Option != "" {
		where += "." + p.Option
	}
	return where + ": " + p.Message
}

// Problems is all that is wrong with a configuration: first what is wrong
// with each section, in file order, then what does not fit together.
type Problems []Problem

// Err joins the problems that are not warnings; nil if there are none.
func (ps Problems) Err() error {
	var errs []error
	for _, p := range ps {
		if !p.Warning {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}
