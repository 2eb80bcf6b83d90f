#!/bin/sh
# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0
#
# test.sh PACKAGE VERSION    what OpenWrt's tests of packages run on a router that
#                            has just been given the package
set -e

case $1 in
braid)
	braid --version | grep -Fx "braid $2"
	for command in agent check pair status wans connections explain watch version; do
		braid "$command" --help >/dev/null
	done
	;;
esac
