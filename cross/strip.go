// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// Where the header of an ELF file of 32 bits has what it says of sections.
const (
	sectionsAt    = 32 // e_shoff, 4 bytes
	sectionCounts = 48 // e_shnum and e_shstrndx, 2 bytes each
)

// stripSections takes the names of the sections off a program, and the padding
// before them, up to a whole alignment. Only its segments are ever loaded.
func stripSections(program []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("reading the program: %w", err)
	}
	if f.Class != elf.ELFCLASS32 {
		return nil, fmt.Errorf("the program is an %v", f.Class)
	}
	var end uint64
	for _, s := range f.Progs {
		end = max(end, s.Off+s.Filesz)
	}
	program = program[:end:end]
	f.ByteOrder.PutUint32(program[sectionsAt:], 0)
	f.ByteOrder.PutUint32(program[sectionCounts:], 0)
	return program, nil
}
