// Package inspecttest has the tests of package inspect that need Debian guests: an untrusted VM runs in emu, is saved, and
// tools look into the snapshot; then into damaged and hostile versions of it. They need the build tag boot.
package inspecttest
