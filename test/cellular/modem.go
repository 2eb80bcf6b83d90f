// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package cellular puts up what a cellular line has beside its packets: a
// system bus of its own, the real ModemManager on it, and modems that speak AT
// commands (3GPP TS 27.007) over a socket, which ModemManager takes for its
// serial port.
package cellular

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
)

// IMEI is that of every modem that is not told another one.
const IMEI = "490154203237518"

// Secrets are what a modem tells ModemManager, and nobody else is to hear:
// subscriber, card, equipment.
var Secrets = []string{"214011234567890", "8934210000000000000", IMEI}

// Registration is the <stat> of +CREG.
type Registration int

// Registrations.
const (
	Idle      Registration = 0
	Home      Registration = 1
	Searching Registration = 2
	Denied    Registration = 3
	Roaming   Registration = 5
)

// Modem is a modem with LTE. It answers from a table, by the text of the
// command; what is not in it is an error.
type Modem struct {
	listener net.Listener

	mu      sync.Mutex
	answers map[string]string
	ports   []net.Conn
	pin     string // what the SIM waits for; empty: nothing
	pinLeft int
}

// ok stands for an answer that is no more than OK.
const ok = ""

// fail begins an answer that ends otherwise than by OK.
const fail = "!"

var answers = map[string]string{
	"AT": ok, "ATE0": ok, "ATV1": ok, "ATZ": ok, "ATX4": ok, "AT&C1": ok, "ATH": ok, "AT+CMEE=1": ok, "AT+IFC=1,1": ok,
	"AT+CFUN?": "+CFUN: 1", "AT+CFUN=1": ok, "AT+CFUN=4": ok,

	"AT+GCAP": "+GCAP: +CGSM", "AT+WS46=?": "+WS46: (12,22,25,28)",
	"AT+CGMI": "Acme", "AT+CGMM": "LTE 1", "AT+CGMR": "1", "AT+CGSN": IMEI,
	"AT+CIMI": Secrets[0],
	// The card's number and the length of its network code (3GPP TS 51.011 10.1.1, 10.3.18).
	"AT+CRSM=176,12258,0,0,10": `+CRSM: 144,0,"984312000000000000F0"`,
	"AT+CRSM=176,28589,0,0,4":  `+CRSM: 144,0,"00000002"`,
	"AT+CPIN?":                 "+CPIN: READY",
	"AT+CLCK=?":                `+CLCK: ("SC","FD","PS")`,
	`AT+CLCK="SC",2`:           "+CLCK: 1", `AT+CLCK="FD",2`: "+CLCK: 0", `AT+CLCK="PS",2`: "+CLCK: 0",

	"AT+CREG=2": ok, "AT+CGREG=2": ok, "AT+CEREG=2": ok, "AT+CREG=0": ok, "AT+CGREG=0": ok, "AT+CEREG=0": ok,
	"AT+COPS=0": ok, "AT+COPS=3,2": ok, "AT+COPS=3,0": ok,

	"AT+CIND=?": `+CIND: ("signal",(0-5)),("service",(0,1)),("roam",(0,1))`, "AT+CIND?": "+CIND: 4,1,0",
	"AT+CMER=?": "+CMER: (0-3),(0),(0),(0,1),(0)", "AT+CMER=3,0,0,1": ok, "AT+CMER=0": ok,
	"AT+CSQ":    "+CSQ: 25,99",
	"AT+CESQ=?": "+CESQ: (0-63,99),(0-7,99),(0-96,255),(0-49,255),(0-34,255),(0-97,255)",
	"AT+CESQ":   "+CESQ: 99,99,255,255,20,60",

	"AT+CSCS=?": `+CSCS: ("IRA","UCS2","GSM")`, "AT+CSCS?": `+CSCS: "IRA"`,
	`AT+CSCS="UCS2"`: ok, `AT+CSCS="IRA"`: ok, `AT+CSCS="GSM"`: ok,
	"AT+CMGF=?": "+CMGF: (0,1)", "AT+CMGF=0": ok,

	"AT+CGDCONT=?": `+CGDCONT: (1-11),"IP",,,(0-2),(0-3)` + "\n" + `+CGDCONT: (1-11),"IPV6",,,(0-2),(0-3)` + "\n" +
		`+CGDCONT: (1-11),"IPV4V6",,,(0-2),(0-3)`,
	"AT+CGDCONT?":  `+CGDCONT: 1,"IP","internet","",0,0`,
	"AT+CGACT=0,1": ok,
}

// NewModem makes a modem that listens at a path. It is at home, with "Acme
// Mobile", which it will also say when it is asked.
func NewModem(path string) (*Modem, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening a modem's port: %w", err)
	}
	m := &Modem{listener: l, answers: maps.Clone(answers)}
	m.Operator("Acme Mobile")
	m.Register(Home)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.ports = append(m.ports, c)
			m.mu.Unlock()
			go m.serve(c)
		}
	}()
	return m, nil
}

// Close pulls the modem out.
func (m *Modem) Close() {
	m.listener.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.ports {
		c.Close()
	}
}

func (m *Modem) serve(c net.Conn) {
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\r')
		if err != nil {
			return
		}
		if line = strings.Trim(line, "\r\n\x1a "); line == "" {
			continue
		}
		m.mu.Lock()
		fmt.Fprint(c, m.answerLocked(line))
		m.mu.Unlock()
	}
}

func (m *Modem) answerLocked(line string) string {
	if pin, entered := strings.CutPrefix(line, "AT+CPIN="); entered {
		return m.enterLocked(strings.Trim(pin, `"`))
	}
	if m.pin != "" && line == "AT+CPIN?" {
		return "\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n"
	}
	// The format of the operator's name is chosen, and then holds.
	if format, chosen := strings.CutPrefix(line, "AT+COPS=3,"); chosen {
		m.answers["AT+COPS?"] = m.answers["operator "+format]
	}
	a, known := m.answers[line]
	switch {
	case !known:
		return "\r\nERROR\r\n"
	case a == ok:
		return "\r\nOK\r\n"
	case strings.HasPrefix(a, fail):
		return "\r\n" + a[len(fail):] + "\r\n"
	}
	return "\r\n" + strings.ReplaceAll(a, "\n", "\r\n") + "\r\n\r\nOK\r\n"
}

// enterLocked checks a PIN.
func (m *Modem) enterLocked(pin string) string {
	if pin == m.pin {
		m.pin = ""
		return "\r\nOK\r\n"
	}
	m.pinLeft--
	return "\r\n+CME ERROR: 16\r\n" // incorrect password
}

// Answer has the modem answer a command so from now on. An answer that begins
// with "!" is the last line itself, else OK is added.
func (m *Modem) Answer(command, answer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers[command] = answer
}

// Lock has the SIM wait for a PIN.
func (m *Modem) Lock(pin string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pin, m.pinLeft = pin, 3
}

// Say sends lines that nobody has asked for.
func (m *Modem) Say(lines ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range lines {
		for _, c := range m.ports {
			fmt.Fprintf(c, "\r\n%s\r\n", line)
		}
	}
}

// Register has the modem stand so with its network, and says it.
func (m *Modem) Register(r Registration) {
	text := fmt.Sprint(int(r))
	if r == Home || r == Roaming {
		text += `,"1234","001122BB",7` // where, and by LTE
	}
	for _, domain := range []string{"+CREG", "+CGREG", "+CEREG"} {
		m.Answer("AT"+domain+"?", domain+": 2,"+text)
		m.Say(domain + ": " + text)
	}
}

// Operator gives the network a name. ModemManager asks for it when the modem
// registers.
func (m *Modem) Operator(name string) {
	m.Answer("operator 0", `+COPS: 0,0,"`+name+`",7`)
	m.Answer("operator 2", `+COPS: 0,2,"21401",7`)
}

// Signal sets how much is received, 0 to 5 bars, and says it.
func (m *Modem) Signal(bars int) { m.Say(fmt.Sprintf("+CIEV: 1,%d", bars)) }
