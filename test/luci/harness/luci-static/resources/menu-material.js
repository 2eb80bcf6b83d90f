// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// The harness has no menu.
