package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/blakesmith/ar"
	"github.com/klauspost/compress/zstd"
)

// archive makes a tar archive.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := h.Uname // what a file holds
		h.Uname, h.Size = "", int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// write makes an ar archive of members.
func write(t *testing.T, names []string, members ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	w := ar.NewWriter(&b)
	if err := w.WriteGlobalHeader(); err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		if err := w.WriteHeader(&ar.Header{Name: n, Size: int64(len(members[i])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(members[i]); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "p.deb")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPackage(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	control := archive(t, tar.Header{Name: "./"}, tar.Header{Name: "./control", Mode: 0o644, Uname: "Package: p\nVersion: 1:2-3\nArchitecture: i386\nDescription: x\n Package: no\n"})
	data := archive(t,
		tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "./bin/p", Mode: 0o4755, Uname: "program"},
		tar.Header{Name: "./bin/q", Typeflag: tar.TypeLink, Linkname: "./bin/p"}, tar.Header{Name: "../../etc/r", Typeflag: tar.TypeSymlink, Linkname: "../x"})
	for name, packed := range map[string][]byte{"data.tar": data, "data.tar.gz": gzipped(t, data), "data.tar.zst": enc.EncodeAll(data, nil)} {
		file := write(t, []string{"debian-binary", "control.tar.gz", name}, []byte("2.0\n"), gzipped(t, control), packed)
		c, err := ReadControl(file)
		if err != nil || c != (Control{"p", "1:2-3", "i386"}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		var seen []string
		err = Walk(file, func(e Entry, r io.Reader) error {
			b, err := io.ReadAll(r)
			seen = append(seen, e.Name+"|"+e.Linkname+"|"+string(b))
			return err
		})
		want := []string{"bin||", "bin/p||program", "bin/q|bin/p|", "etc/r|../x|"}
		if err != nil || len(seen) != len(want) {
			t.Fatalf("%s: %q, %v", name, seen, err)
		}
		for i := range want {
			if seen[i] != want[i] {
				t.Errorf("%s: %q, want %q", name, seen[i], want[i])
			}
		}
	}
}

func TestNotAPackage(t *testing.T) {
	for name, file := range map[string]string{
		"no members": write(t, nil),
		"no data":    write(t, []string{"debian-binary"}, []byte("2.0\n")),
		"unknown":    write(t, []string{"data.tar.lzma"}, []byte("x")),
	} {
		if err := Walk(file, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	file := write(t, []string{"data.tar"}, archive(t, tar.Header{Name: "a"}))
	if err := Walk(file, func(Entry, io.Reader) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the visitor's error is lost: %v", err)
	}
}
