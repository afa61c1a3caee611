package metadata_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/metadata/internal/metadatapb"
	"github.com/hybridbridge/emu/core/policy"
)

// FuzzDecode damages what is behind the checksum: Meta-Data from elsewhere may be hostile.
func FuzzDecode(f *testing.F) {
	set := setOf(f, site(policy.Unknown, from(policy.Snapshot, 0x10, 0x20), from(policy.Local, 0x30)))
	set.AddTraining(training)
	set.AddSymbol(metadata.Location{Offset: 0x100}, metadata.Symbol{Function: "f"})
	var e metadatapb.Envelope
	if err := proto.Unmarshal(encode(f, set), &e); err != nil {
		f.Fatal(err)
	}
	f.Add(e.Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		b, err := proto.Marshal(&metadatapb.Envelope{Format: e.Format, SchemaVersion: e.SchemaVersion, Sha256: sum[:], Body: body})
		if err != nil {
			t.Fatal(err)
		}
		sets, err := metadata.Decode(b)
		if err != nil {
			return
		}
		once, err := metadata.Encode(sets)
		if err != nil {
			t.Fatal(err)
		}
		again, err := metadata.Decode(once)
		if err != nil {
			t.Fatal("what was read cannot be read again:", err)
		}
		if twice, err := metadata.Encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatal("it changes every time:", err)
		}
		for _, s := range sets {
			s.Merge(s)
			metadata.NewIndex(s)
			for _, id := range s.Scopes() {
				for _, site := range s.Sites(id) {
					site.Traps()
				}
			}
		}
	})
}
