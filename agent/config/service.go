// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import "fmt"

// Service is where a domain has a converter, as a SRV record says (RFC 2782).
type Service struct {
	Host     string
	Port     uint16
	Priority uint16 // lower first; among equals the order is that of a list
}

// WithServices is c with the converters of each domain in the place of its one
// section, in the order in which they are to be tried. Nothing is known of a
// domain that is not in found.
func (c Config) WithServices(found map[string][]Service) Config {
	var all []Converter
	for _, conv := range c.Converters {
		if conv.SRV == "" || len(found[conv.SRV]) == 0 {
			all = append(all, conv)
			continue
		}
		for _, s := range found[conv.SRV] {
			one := conv
			one.Addresses, one.Port = []Host{{Name: s.Host}}, s.Port
			if len(found[conv.SRV]) > 1 {
				one.Name = fmt.Sprintf("%s@%s:%d", conv.Name, s.Host, s.Port)
			}
			all = append(all, one)
		}
	}
	c.Converters = all
	return c
}
