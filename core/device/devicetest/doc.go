// Package devicetest tests devices: a settable clock, a recorder of outputs, random access (Fuzz) and the property
// that a device goes on from saved state as if nothing had happened (RoundTrip).
package devicetest
