# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0
#
# As much of OpenWrt's buildroot as openwrt/braid/Makefile asks for: it shows
# what a package would be made of, and makes none. OUT is for what it writes.

INCLUDE_DIR := $(TOPDIR)/include
PKG_BUILD_DIR = $(OUT)/build
PKG_INSTALL_DIR = $(OUT)/install
CP := cp -fpR
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
