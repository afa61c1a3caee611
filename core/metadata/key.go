package metadata

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// SchemaVersion is the version of the stored form. Meta-Data of another version is not read.
const SchemaVersion = 2

// Key says what Meta-Data is about. Meta-Data of one key must not be used under another.
type Key struct {
	// Banner is the kernel's, as in /proc/version, without the newline.
	Banner string
	// BTFHash is the SHA-256 of the kernel's .BTF section, in hexadecimal; "" for a kernel without, known by its banner alone.
	BTFHash string
	// Policy is the digest of the set of policies, in hexadecimal.
	Policy string
}

// ID is a short name of the key for the command line: 12 hexadecimal digits.
func (k Key) ID() string {
	h := sha256.Sum256([]byte(k.encode()))
	return hex.EncodeToString(h[:6])
}

// Release is the kernel's release, such as "6.1.0-18-amd64", or the banner if that does not tell.
func (k Key) Release() string {
	rest, ok := strings.CutPrefix(k.Banner, "Linux version ")
	if !ok {
		return k.Banner
	}
	release, _, _ := strings.Cut(rest, " ")
	return release
}

// String names the key in messages.
func (k Key) String() string {
	return fmt.Sprintf("%s (kernel %s, policy %s)", k.ID(), k.Release(), short(k.Policy))
}

func short(digest string) string { return digest[:min(len(digest), 12)] }

// Check says what is wrong with a key, or nil.
func (k Key) Check() error {
	switch {
	case k.Banner == "" || strings.ContainsRune(k.Banner, 0):
		return fmt.Errorf("Meta-Data key: the kernel's banner is %q, but it must be the text of /proc/version", k.Banner)
	case k.BTFHash != "" && (!isHex(k.BTFHash) || len(k.BTFHash) != 2*sha256.Size):
		return fmt.Errorf("Meta-Data key: the hash of .BTF is %q, but it must be a SHA-256 in hexadecimal", k.BTFHash)
	case !isHex(k.Policy) || k.Policy == "":
		return fmt.Errorf("Meta-Data key: the policy's digest is %q, but it must be hexadecimal", k.Policy)
	}
	return nil
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// encode is the key's form in the store. No part contains the separator.
func (k Key) encode() string { return k.Banner + "\x00" + k.BTFHash + "\x00" + k.Policy }

func decodeKey(b []byte) (Key, error) {
	parts := strings.Split(string(b), "\x00")
	if len(parts) != 3 {
		return Key{}, fmt.Errorf("Meta-Data key %q: it has %d parts, not 3", b, len(parts))
	}
	k := Key{parts[0], parts[1], parts[2]}
	return k, k.Check()
}

func compareKeys(a, b Key) int { return cmp.Compare(a.encode(), b.encode()) }
