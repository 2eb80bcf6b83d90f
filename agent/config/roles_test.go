// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoles(t *testing.T) {
	type roles = map[string]Role
	for _, tc := range []struct {
		name  string
		wans  []WAN
		guess map[string]Kind
		want  roles
	}{
		{"none", nil, nil, roles{}},
		{"one of each", []WAN{
			{Name: "lte", Kind: KindCellular},
			{Name: "fibre", Kind: KindFixed},
			{Name: "dsl", Kind: KindFixed},
			{Name: "sim", Kind: KindCellular, Quota: 5},
		}, nil, roles{"fibre": RolePrimary, "dsl": RoleBond, "lte": RoleOverflow, "sim": RoleBackup}},
		{"a fixed line may have a quota", []WAN{
			{Name: "fibre", Kind: KindFixed}, {Name: "satellite", Kind: KindFixed, Quota: 100},
		}, nil, roles{"fibre": RolePrimary, "satellite": RoleBond}},
		{"guessed", []WAN{{Name: "a"}, {Name: "b"}, {Name: "c"}},
			map[string]Kind{"a": KindCellular, "b": KindFixed},
			roles{"a": RoleOverflow, "b": RolePrimary, "c": RoleBond}},
		{"the file is stronger than the guess", []WAN{{Name: "a", Kind: KindCellular}, {Name: "b"}},
			map[string]Kind{"a": KindFixed},
			roles{"a": RoleOverflow, "b": RolePrimary}},
		{"primary by the file", []WAN{{Name: "a"}, {Name: "b", Kind: KindCellular, Role: RolePrimary}},
			nil, roles{"a": RoleBond, "b": RolePrimary}},
		{"the first fixed one has a role", []WAN{{Name: "a", Role: RoleBond}, {Name: "b"}, {Name: "c"}},
			nil, roles{"a": RoleBond, "b": RolePrimary, "c": RoleBond}},
		{"all cellular", []WAN{
			{Name: "off", Kind: KindCellular, Role: RoleOff},
			{Name: "quota", Kind: KindCellular, Quota: 1},
			{Name: "a", Kind: KindCellular},
			{Name: "b", Kind: KindCellular},
		}, nil, roles{"off": RoleOff, "quota": RoleBackup, "a": RolePrimary, "b": RoleOverflow}},
		{"a bond goes before overflow", []WAN{
			{Name: "lte", Kind: KindCellular}, {Name: "fibre", Role: RoleBond}, {Name: "dsl", Role: RoleBond},
		}, nil, roles{"lte": RoleOverflow, "fibre": RolePrimary, "dsl": RoleBond}},
		{"nothing but backups", []WAN{
			{Name: "a", Role: RoleBackup}, {Name: "b", Kind: KindCellular, Quota: 1}, {Name: "c", Role: RoleOff},
		}, nil, roles{"a": RoleBackup, "b": RoleBackup, "c": RoleOff}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Config{WANs: tc.wans}.Roles(tc.guess)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
