package debian

import (
	"slices"
	"testing"
)

func TestParseURIs(t *testing.T) {
	out := `'http://mirror/pool/a/a_1%3a2_amd64.deb' a_1%3a2_amd64.deb 12 SHA256:00
Reading state information...
'http://mirror/pool/lib/libb1_3_all.deb' libb1_3_all.deb 7
`
	want := []resolved{{"a", "dir/a_1%3a2_amd64.deb"}, {"libb1", "dir/libb1_3_all.deb"}}
	if got := parseURIs(out, "dir"); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
