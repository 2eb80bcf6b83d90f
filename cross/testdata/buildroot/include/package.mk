# SPDX-FileCopyrightText: The braid authors
# SPDX-License-Identifier: Apache-2.0

all: install facts

define BuildPackage
$(eval $(Package/$(1)))
export DESCRIPTION := $$(call Package/$(1)/description)
export CONFFILES := $$(call Package/$(1)/conffiles)
export POSTINST := $$(call Package/$(1)/postinst)
export POSTRM := $$(call Package/$(1)/postrm)

install:
	$$(call Build/Prepare)
	$$(INSTALL_DIR) $$(OUT)/root
	$$(call Package/$(1)/install,$$(OUT)/root)

facts:
	echo '$(1)' >$$(OUT)/name
	echo '$$(PKG_VERSION)-r$$(PKG_RELEASE)' >$$(OUT)/version
	echo '$$(SECTION)' >$$(OUT)/section
	echo '$$(TITLE)' >$$(OUT)/title
	echo '$$(patsubst +%,%,$$(filter-out @%,$$(DEPENDS)))' >$$(OUT)/depends
	echo '$$(GO_PKG_BUILD_PKG) $$(GO_PKG_LDFLAGS_X)' >$$(OUT)/program
	echo "$$$$DESCRIPTION" >$$(OUT)/description
	echo "$$$$CONFFILES" >$$(OUT)/conffiles
	echo "$$$$POSTINST" >$$(OUT)/postinst-pkg
	echo "$$$$POSTRM" >$$(OUT)/postrm
endef
