// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// find is the modem of a WAN, or nil. Automatic is first whose bearer runs over
// the WAN's device, then who has that as a port, then who is the same piece of
// hardware.
func (t Target) find(objects []*object, sysfs string) *object {
	for _, is := range t.criteria(sysfs) {
		if i := slices.IndexFunc(objects, is); i >= 0 {
			return objects[i]
		}
	}
	return nil
}

func (t Target) criteria(sysfs string) []func(*object) bool {
	switch {
	case strings.HasPrefix(t.Modem, "/"):
		return []func(*object) bool{func(o *object) bool { return string(o.path) == t.Modem }}
	case t.Modem != "auto":
		return []func(*object) bool{func(o *object) bool { return o.imei == t.Modem }}
	case t.Device == "":
		return nil
	}
	names := append([]string{t.Device}, lower(sysfs, t.Device)...)
	overlap := func(have []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(have, n) })
	}
	return []func(*object) bool{
		func(o *object) bool { return overlap(o.links) },
		func(o *object) bool { return overlap(o.ports) },
		func(o *object) bool {
			return slices.ContainsFunc(names, func(n string) bool { return within(hardware(sysfs, n), o.sysfs) })
		},
	}
}

// lower are the devices that a device is on top of, as multiplexed ones are.
func lower(sysfs, device string) (names []string) {
	const prefix = "lower_"
	dir, err := os.Open(filepath.Join(sysfs, "class/net", device))
	if err != nil {
		return nil
	}
	defer dir.Close()
	all, _ := dir.Readdirnames(-1)
	for _, n := range all {
		if name, ok := strings.CutPrefix(n, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// hardware is where sysfs has the piece of hardware of a network device, or "".
func hardware(sysfs, device string) string {
	path, err := filepath.EvalSymlinks(filepath.Join(sysfs, "class/net", device, "device"))
	if err != nil {
		return ""
	}
	return "/sys" + strings.TrimPrefix(path, sysfs)
}

// within says whether a path is a directory or lies below it.
func within(path, dir string) bool {
	return dir != "" && (path == dir || strings.HasPrefix(path, dir+"/"))
}

// control is the character device by which the modem of a network device is
// spoken to, or "".
func control(sysfs, device string) string {
	if device == "" {
		return ""
	}
	for _, name := range append([]string{device}, lower(sysfs, device)...) {
		found, _ := filepath.Glob(filepath.Join(sysfs, "class/net", name, "device/usbmisc/cdc-wdm*"))
		if len(found) > 0 {
			return "/dev/" + filepath.Base(found[0])
		}
	}
	return ""
}
