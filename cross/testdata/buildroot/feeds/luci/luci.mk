# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0
#
# As much of LuCI's own rules as a page asks for.

all:
	$(INSTALL_DIR) $(OUT)/root/www
	$(CP) ./root/* $(OUT)/root/
	$(CP) ./htdocs/* $(OUT)/root/www/
	echo '$(PKG_VERSION)-r$(PKG_RELEASE)' >$(OUT)/version
	echo '$(LUCI_TITLE)' >$(OUT)/title
	echo '$(LUCI_DESCRIPTION)' >$(OUT)/description
	echo '$(patsubst +%,%,$(LUCI_DEPENDS))' >$(OUT)/depends
	echo '$(wildcard ${CURDIR}/po/*/*.po)' >$(OUT)/po
