# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0

GO_ARCH_DEPENDS := @(aarch64||arm||mips||mipsel||x86_64)

define GoPackage/Package/Install/Bin
	$(INSTALL_DIR) $(1)/usr/bin
	echo program >$(1)/usr/bin/$(notdir $(GO_PKG_BUILD_PKG))
endef
