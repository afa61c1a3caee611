package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/kvmaccel"
)

// finding is what emu doctor says about one thing.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Needed says that nothing can be inspected without it.
	Needed bool   `json:"needed"`
	Detail string `json:"detail"`
	// Remedy is what to do if it is not OK.
	Remedy string `json:"remedy,omitempty"`
}

func newDoctorCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var plugins string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is missing on this machine and how to get it",
		Long: `Doctor looks at what an inspection needs: policies with the right checksums, trusted images, a file for Meta-Data, and the
program that fetches packages for new images. It says whether KVM can be used.

Exit codes: 0 nothing that is needed is missing; 1 something is; 2 usage.`,
		Args: cobra.NoArgs,
	}
	addPluginsFlag(c.Flags(), &plugins)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		found := []finding{checkPolicies(plugins, log), checkImages(), checkMetaData(), checkPackages(), checkKVM()}
		w := c.OutOrStdout()
		if asJSON {
			if err := printJSON(w, found); err != nil {
				return err
			}
		} else {
			printFindings(w, found)
		}
		for _, f := range found {
			if f.Needed && !f.OK {
				return &codedError{code: exitError}
			}
		}
		return nil
	}
	return c
}

func printFindings(w io.Writer, found []finding) {
	for _, f := range found {
		word := "ok"
		switch {
		case f.OK:
		case f.Needed:
			word = "missing"
		default:
			word = "note"
		}
		fmt.Fprintf(w, "%-8s %-10s %s\n", word, f.Name, f.Detail)
		if !f.OK {
			fmt.Fprintf(w, "%-8s %-10s -> %s\n", "", "", f.Remedy)
		}
	}
}

func checkPolicies(dir string, log hclog.Logger) finding {
	f := finding{Name: "policies", Needed: true, Remedy: "build them beside emu with \"make\", or name their directory with --plugins or $" + pluginsVariable}
	h, err := openPolicies(dir, log)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	defer h.Close()
	f.OK, f.Detail = true, fmt.Sprintf("%d in %s", len(h.Plugins()), h.Dir())
	return f
}

func checkImages() finding {
	f := finding{Name: "images", Needed: true, Remedy: "emu image build --kernel linux-image-cloud-amd64"}
	s, err := image.DefaultStore()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	all, err := s.List()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	for _, i := range all {
		if i.Agent != session.AgentVersion {
			f.Detail += fmt.Sprintf("%s is of an older emu; ", i.ID)
			f.Remedy = "build it again: emu image build --kernel linux-image-" + i.Release
			continue
		}
		f.OK = true
	}
	f.Detail += fmt.Sprintf("%d in %s", len(all), s.Dir)
	return f
}

func checkMetaData() finding {
	f := finding{Name: "Meta-Data", Remedy: "name another file with --meta, or none with --meta none"}
	path, err := metadata.DefaultPath()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	keys, err := (&metadata.Store{Path: path}).Keys()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.OK, f.Detail = true, fmt.Sprintf("of %d kernels and policies in %s", len(keys), path)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		f.Detail = "none yet; it will be in " + filepath.Dir(path)
	}
	return f
}

func checkPackages() finding {
	f := finding{Name: "packages", Remedy: "images can still be built with --kernel FILE.deb and --rootfs DIR"}
	path, err := exec.LookPath("apt-get")
	if err != nil {
		f.Detail = "there is no apt-get to fetch kernels and tools for new images"
		return f
	}
	f.OK, f.Detail = true, path+" fetches kernels and tools for new images"
	return f
}

func checkKVM() finding {
	f := finding{Name: "KVM", Remedy: "guests run in the emulator without it: --accel=soft"}
	host, err := kvmaccel.SupportedCPUID()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.OK, f.Detail = true, kvmaccel.Device+" can be used"
	if _, dropped, rest := (cpu.Config{}).Fit(host); dropped != nil || rest != nil {
		f.Detail += "; it lacks what the default processor has: " + strings.Join(append(dropped, rest...), " ")
	}
	return f
}
