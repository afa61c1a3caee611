// Package linux says which Linux kernel is in a memory snapshot, where KASLR has put it, and translates its virtual
// addresses. All it goes by is the snapshot, which an attacker may have written: every claim of one source is checked against
// others, what does not agree is a Warning, and identity is the banner with the hash of the .BTF section, both to be compared
// with those of a trusted kernel. Start at Identify; AddressSpace is of use on its own.
package linux
