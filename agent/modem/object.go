// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"strings"

	"github.com/godbus/dbus/v5"
)

// ModemManager's names on the bus.
const (
	managerName = "org.freedesktop.ModemManager1"
	managerPath = "/org/freedesktop/ModemManager1"

	modemInterface    = managerName + ".Modem"
	modem3GPP         = modemInterface + ".Modem3gpp"
	signalInterface   = modemInterface + ".Signal"
	bearerInterface   = managerName + ".Bearer"
	objectManager     = "org.freedesktop.DBus.ObjectManager"
	propertyInterface = "org.freedesktop.DBus.Properties"
)

// object is a modem of ModemManager's.
type object struct {
	path  dbus.ObjectPath
	imei  string
	sysfs string   // physical device
	ports []string // network devices
	facts Facts

	state   int32
	bearers []dbus.ObjectPath
	initial dbus.ObjectPath // the initial EPS bearer, or ""
	links   []string        // network devices of bearers that are connected
	rate    uint32          // of the refresh of radio values, in seconds; 0: none
	radio   bool            // it has radio values
}

// newObject reads an object with its interfaces; nil if it is no modem. One that
// has gone may be listed without any.
func newObject(path dbus.ObjectPath, interfaces map[string]map[string]dbus.Variant) *object {
	m := properties(interfaces[modemInterface])
	if m == nil {
		return nil
	}
	o := &object{
		path:    path,
		imei:    get[string](m, "EquipmentIdentifier"),
		sysfs:   get[string](m, "Device"),
		state:   get[int32](m, "State"),
		bearers: get[[]dbus.ObjectPath](m, "Bearers"),
	}
	for _, port := range get[[][]any](m, "Ports") {
		const net = 2 // MMModemPortType
		if len(port) == 2 && port[1] == uint32(net) {
			name, _ := port[0].(string)
			o.ports = append(o.ports, name)
		}
	}
	f := &o.facts
	*f = Facts{Source: SourceManager, Present: true, Model: model(m), Technology: technology(get[uint32](m, "AccessTechnologies"))}
	switch o.state {
	case stateFailed:
		f.Failure = failure(get[uint32](m, "StateFailedReason"))
	case stateLocked:
		// A second PIN may be required of a modem that works, too.
		f.Lock = lock(get[uint32](m, "UnlockRequired"), get[map[uint32]uint32](m, "UnlockRetries"))
	}
	if q := get[[]any](m, "SignalQuality"); len(q) == 2 && q[1] == true { // recent
		percent, _ := q[0].(uint32)
		f.Signal = int(min(percent, 100))
	}
	o.readNetwork(properties(interfaces[modem3GPP]))
	o.readRadio(properties(interfaces[signalInterface]))
	return o
}

func model(m properties) string {
	maker, model := clean(get[string](m, "Manufacturer")), clean(get[string](m, "Model"))
	if maker == "" || strings.HasPrefix(strings.ToLower(model), strings.ToLower(maker)) {
		return model
	}
	return clean(maker + " " + model)
}

// readNetwork reads how the modem stands with its network. One that is not
// enabled, or is no 3GPP modem, does not know.
func (o *object) readNetwork(p properties) {
	if path := get[dbus.ObjectPath](p, "InitialEpsBearer"); len(path) > 1 {
		o.initial = path
	}
	f := &o.facts
	if o.state >= stateEnabled && p != nil {
		f.Registration = registration(get[uint32](p, "RegistrationState"))
	}
	if f.Registration != Home && f.Registration != Roaming {
		// What is received from a network that does not serve tells nothing.
		f.Technology, f.Signal = "", 0
		if f.Registration != Unknown {
			f.Failure = rejection(p.dict("NetworkRejection"))
		}
		return
	}
	f.Operator = clean(get[string](p, "OperatorName"))
	if f.Operator == "" {
		f.Operator = clean(get[string](p, "OperatorCode"))
	}
	f.Roaming = f.Registration == Roaming
}

// readRadio reads values of the radio interface. Those of a network that is
// lost stay, and are not read.
func (o *object) readRadio(p properties) {
	o.radio, o.rate = p != nil, get[uint32](p, "Rate")
	f := &o.facts
	if f.Registration != Home && f.Registration != Roaming {
		return
	}
	for _, name := range []string{"Nr5g", "Lte"} {
		if v := p.dict(name); v.number("rsrp") != 0 {
			f.RSRP, f.RSRQ, f.SINR = v.number("rsrp"), v.number("rsrq"), v.number("snr")
			return
		}
	}
}

// setBearers takes what the bearers say, by path.
func (o *object) setBearers(bearers map[dbus.ObjectPath]properties) {
	f := &o.facts
	f.IPType = ipType(get[uint32](bearers[o.initial].dict("Properties"), "ip-type"))
	refused := ""
	for _, path := range o.bearers {
		p := bearers[path]
		if !get[bool](p, "Connected") {
			if why := get[[]any](p, "ConnectionError"); len(why) == 2 {
				text, _ := why[1].(string)
				refused = clean(text)
			}
			continue
		}
		o.links = append(o.links, get[string](p, "Interface"))
		var family uint32
		for i, ip := range []properties{p.dict("Ip4Config"), p.dict("Ip6Config")} {
			if get[uint32](ip, "method") != 0 {
				family |= 1 << i
			}
			// IPv6 needs 1280 (RFC 8200 section 5), IPv4 is given no less.
			if mtu := int(get[uint32](ip, "mtu")); mtu >= 1280 && mtu <= 65535 && (f.MTU == 0 || mtu < f.MTU) {
				f.MTU = mtu
			}
		}
		if granted := ipType(family); granted != "" {
			f.IPType = granted
		}
	}
	if len(o.links) == 0 && f.Failure == "" && (f.Registration == Home || f.Registration == Roaming) {
		f.Failure = refused
	}
}
