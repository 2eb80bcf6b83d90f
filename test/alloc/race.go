// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package alloc

// Race is what the race detector, if it is there, adds to a connection: it has pools
// forget.
const Race = 3
