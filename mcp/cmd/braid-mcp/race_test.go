// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package main

// raceMemory is how many times as much memory the race detector, if it is there,
// has the program take.
const raceMemory = 5
