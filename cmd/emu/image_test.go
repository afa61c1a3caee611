package main

import (
	"errors"
	"strings"
	"testing"
)

func TestImageCommands(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, c := range []struct{ args, want string }{
		{"ls", ""},
		{"ls --json", "[]\n"},
		{"", "build"},
	} {
		text, err := emuOut(append([]string{"image"}, strings.Fields(c.args)...)...)
		if err != nil || !strings.Contains(text, c.want) || c.want == "" && text != "" {
			t.Errorf("%q: %q, %v", c.args, text, err)
		}
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"bild", exitUsage, "unknown command"},
		{"build", exitUsage, "--kernel"},
		{"build --kernel x --rootfs y --tools z", exitUsage, "exclude each other"},
		{"build --kernel x --memory none", exitUsage, "not a size"},
		{"build --kernel ./none.deb", exitError, "no such file"},
		{"build --kernel ./none.deb --name a/b", exitError, "cannot be the name"},
		{"info none", exitError, "no such trusted image"},
		{"rm none", exitError, "no such trusted image"},
		{"rm ..", exitError, "cannot be the name"},
	} {
		_, err := emuOut(append([]string{"image"}, strings.Fields(c.args)...)...)
		code := exitCode(err)
		var coded *codedError
		if errors.As(err, &coded) {
			code = coded.code
		}
		if err == nil || code != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: exit code %d, %v", c.args, code, err)
		}
	}
}
