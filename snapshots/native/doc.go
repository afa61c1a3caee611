// Package native is emu's own snapshot format: the whole state of a machine in one file, from which it goes on at the
// next instruction, and from which memory can be read at random without unpacking the rest.
//
//	"EMUSNAP" 1                         8 bytes
//	chunks of memory                    each zstd-compressed, or raw where that is not shorter; zero chunks are absent
//	index                               JSON, zstd-compressed: Header and the place and checksum of each chunk
//	trailer                             index offset, index length, CRC-32C of the index (8+8+4 bytes), "EMUSNAPE"
//
// A plain snapshot (WritePlain) has all chunks raw, each at a multiple of 4096, so that memory can be mapped.
//
// The trailer is written last and the file gets its name only when it is on the disk, so that a save that was killed
// leaves nothing that loads. Numbers are little-endian. Start at Write and Open.
package native
