// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// MIB reads a counter of the namespace under the name that nstat prints, such as
// MPTcpExtMPJoinSynAckRx, TcpRetransSegs or Ip6InReceives. It panics when the kernel has no
// such counter: a test must not take a misspelt name for 0.
func (n *Node) MIB(name string) uint64 {
	var v uint64
	err := n.Do(func() error {
		for _, file := range []string{"netstat", "snmp", "snmp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			if value, ok := parseMIB(b)[name]; ok {
				v, err = strconv.ParseUint(value, 10, 64)
				return err
			}
		}
		return os.ErrNotExist
	})
	if err != nil {
		panic(fmt.Sprintf("reading counter %s in %s: %v", name, n.Name, err))
	}
	return v
}

// parseMIB reads lines of name and value, or pairs of lines "prefix: names", "prefix: values".
func parseMIB(b []byte) map[string]string {
	m := make(map[string]string)
	in := bufio.NewScanner(bytes.NewReader(b))
	for in.Scan() {
		names := strings.Fields(in.Text())
		prefix, isTable := strings.CutSuffix(names[0], ":")
		if !isTable {
			m[names[0]] = names[1]
			continue
		}
		in.Scan()
		values := strings.Fields(in.Text())
		for i := 1; i < len(names); i++ {
			m[prefix+names[i]] = values[i]
		}
	}
	return m
}
