// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const braidTable = "braid"

// nft stands in where nobody builds nft any more, which is on big-endian MIPS.
// It does not know the language: it takes from the agent's ruleset the devices,
// the port and the mark, and makes the rules without which nothing would be
// intercepted. What others load, the laboratory for one, it lets go.
func nft(args []string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	if slices.Equal(args, []string{"list", "tables"}) {
		return list(c, "table inet ")
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	script := string(text)
	switch {
	case slices.Contains(args, "-c"):
		return nil
	case strings.HasPrefix(script, "list table inet braid"):
		return list(c, "table inet ")
	case strings.HasPrefix(script, "list table"):
		return errors.New("looking for the table: No such file or directory")
	case strings.Contains(script, "tproxy ip to"):
		return intercept(c, script)
	case strings.HasPrefix(script, "delete table inet braid"):
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: braidTable})
		return c.Flush()
	}
	return nil
}

func list(c *nftables.Conn, prefix string) error {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	for _, t := range tables {
		fmt.Println(prefix + t.Name + " {\n}")
	}
	return nil
}

var (
	lanDevices = regexp.MustCompile(`iifname \{ ([^}]*) \}`)
	proxyPort  = regexp.MustCompile(`tproxy ip to 127\.0\.0\.1:(\d+)`)
	markBit    = regexp.MustCompile(`meta mark set meta mark \| (0x[0-9a-f]+)`)
)

// intercept gives a LAN's SYNs to the proxy, and what follows to its sockets.
func intercept(c *nftables.Conn, script string) error {
	devices, port, mark := lanDevices.FindStringSubmatch(script), proxyPort.FindStringSubmatch(script), markBit.FindStringSubmatch(script)
	if devices == nil || port == nil || mark == nil {
		return errors.New("the ruleset is another one than this machine knows")
	}
	p, err := strconv.ParseUint(port[1], 10, 16)
	if err != nil {
		return err
	}
	m, err := strconv.ParseUint(mark[1], 0, 32)
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: braidTable}
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	chain := c.AddChain(&nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	for _, d := range strings.Split(devices[1], ", ") {
		device, err := strconv.Unquote(d)
		if err != nil {
			return fmt.Errorf("device %s: %w", d, err)
		}
		fromLAN := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(device), make([]byte, unix.IFNAMSIZ-len(device))...)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(fromLAN, []expr.Any{
			&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
		}, setMark(uint32(m)), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})})
		for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(fromLAN, []expr.Any{
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(family)}},
			}, isSYN(), setMark(uint32(m)), tproxy(family, uint16(p)))})
		}
	}
	return c.Flush()
}

func setMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func isSYN() []expr.Any {
	const flags, finSYNResetACK, syn = 13, 0x17, 0x02
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{finSYNResetACK}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
	}
}

func tproxy(family nftables.TableFamily, port uint16) []expr.Any {
	local := []byte{127, 0, 0, 1}
	if family == nftables.TableFamilyIPv6 {
		local = append(make([]byte, 15), 1)
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: local},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.TProxy{Family: byte(family), TableFamily: byte(nftables.TableFamilyINet), RegAddr: 1, RegPort: 2},
	}
}
