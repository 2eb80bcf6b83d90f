#!/usr/bin/env bash
# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0
#
# testdata/deb.sh OLD NEW   installs, starts, upgrades, removes and purges the
#                           packages of braid-mcp on this very Debian, seen
#                           through an overlay that takes all that is written
#
# It needs root and is to be run in mount and network namespaces of its own.
set -euo pipefail
dir=$(mktemp -d)
mount --make-rprivate /
mount -t tmpfs tmpfs "$dir"
mkdir "$dir"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
mount -t proc proc "$dir/root/proc"
mount -t tmpfs tmpfs "$dir/root/run"
mount --bind /dev "$dir/root/dev"
mkdir "$dir/root/packages"
cp "$1" "$dir/root/packages/old.deb"
cp "$2" "$dir/root/packages/new.deb"
ip link set lo up

pid=
trap '[ -z "$pid" ] || kill "$pid"; umount -R "$dir"; rmdir "$dir"' EXIT
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR

on() { chroot "$dir/root" "$@"; }
not() { ! "$@"; }
step() { echo "-- $*"; }

step install
not on id braid-mcp 2>/dev/null
on dpkg -i /packages/old.deb
[ "$(on braid-mcp version)" = 1.0 ]
[ "$(on stat -c %U:%G:%a /etc/braid-mcp.toml)" = root:braid-mcp:640 ]
[ "$(on stat -c %U:%G:%a /etc/braid-mcp.d)" = root:braid-mcp:2750 ]
on braid-mcp check
on systemctl --quiet is-enabled braid-mcp.service
on systemd-analyze verify --man=no braid-mcp.service
on systemd-analyze security --offline=yes --threshold=25 braid-mcp.service | tail -n 1
on sysctl --load /usr/lib/sysctl.d/60-braid-mcp.conf
[ "$(on sysctl -n net.ipv4.tcp_fastopen)" = 3 ]

step 'start as the unit does'
unit=$dir/root/usr/lib/systemd/system/braid-mcp.service
value() { sed -n "s/^$1=//p" "$unit"; }
: >"$dir/log"
caps=$(value AmbientCapabilities | tr '[:upper:]' '[:lower:]' | sed 's/cap_/+/g; s/ /,/g')
read -ra command <<<"$(value ExecStart)"
on install -d -o braid-mcp -g braid-mcp "/run/$(value RuntimeDirectory)"
chroot "$dir/root" setpriv --reuid "$(value User)" --regid "$(value Group)" --clear-groups \
	--no-new-privs --bounding-set "-all,$caps" --inh-caps "-all,$caps" --ambient-caps "-all,$caps" \
	"${command[@]}" 2>"$dir/log" &
pid=$!
for _ in $(seq 100); do
	! grep -q listening "$dir/log" || break
	sleep 0.1
done
cat "$dir/log"
grep -q 'msg=listening' "$dir/log"
not grep -E 'level=(WARN|ERROR)' <(grep -v 'nobody may use' "$dir/log") # it could do all that it wanted
[ "$(ip mptcp limits show | sed 's/.*subflows \([0-9]*\).*/\1/')" = 8 ]

step 'a client in one command'
pair=$(on braid-mcp add -host 192.0.2.10 home)
[[ $pair =~ ^braid://192\.0\.2\.10:5124#[0-9a-f]{64}$ ]]
[ "$(on stat -c %U:%G:%a /etc/braid-mcp.d/home.toml)" = root:braid-mcp:640 ]
on braid-mcp list | grep -q '^home  *key '
on braid-mcp status | grep -q '^home ' # it is known without a restart
not on braid-mcp add home
kill "$pid"
wait "$pid"
pid=
[ "$(ip mptcp limits show | sed 's/.*subflows \([0-9]*\).*/\1/')" = 2 ]

step upgrade
echo '# mine' >>"$dir/root/etc/braid-mcp.toml"
on dpkg -i /packages/new.deb
[ "$(on braid-mcp version)" = 2.0 ]
on grep -q "${pair#*#}" /etc/braid-mcp.d/home.toml
on grep -q '^# mine$' /etc/braid-mcp.toml
on systemctl --quiet is-enabled braid-mcp.service

step remove
on dpkg -r braid-mcp
on grep -q '^# mine$' /etc/braid-mcp.toml
on grep -q "${pair#*#}" /etc/braid-mcp.d/home.toml
not on test -e /usr/bin/braid-mcp

step purge
on dpkg -P braid-mcp
not on id braid-mcp 2>/dev/null
left=$(cd "$dir/root" && find etc lib/systemd usr/bin usr/lib/systemd usr/lib/sysctl.d usr/share var/lib/systemd -name '*braid-mcp*' ! -path 'usr/share/braid*')
[ -z "$left" ] || { echo "left: $left"; false; }
