package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/session"
)

func newImageCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Make and list trusted images",
		Long: `A trusted image is a kernel that has booted in emu with a toolbox and waits for a command. An introspection needs the one
of the snapshot's kernel. Images are in emu/images below $XDG_DATA_HOME (~/.local/share), downloaded packages in
emu/packages below $XDG_CACHE_HOME (~/.cache).

Exit codes: 0 done; 1 error; 2 usage; 128+n ended by signal n; of "emu image run", the command's.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; \"emu help image\" lists them", args[0])
			}
			return cmd.Help()
		},
	}
	c.AddCommand(newImageBuildCommand(), newImageListCommand(), newImageInfoCommand(), newImageRemoveCommand(), newImageRunCommand(logger))
	return c
}

func newImageBuildCommand() *cobra.Command {
	var o image.Options
	var memory string
	var asJSON bool
	c := &cobra.Command{
		Use:   "build --kernel DEB|VMLINUZ|PACKAGE",
		Short: "Boot a kernel with a toolbox and save it as a trusted image",
		Long: `Build boots a kernel in emu and lets it say its symbols, types and notes. The kernel is a Debian package, a kernel image
(bzImage or vmlinux) or the name of a package, such as linux-image-cloud-amd64 or linux-image-686-pae:i386. Packages that
are named are fetched with apt-get, with what they depend on. An image of the same name is replaced.

A kernel without type information (.BTF), such as Debian's for i386, needs debugging information: Debian's package
linux-image-RELEASE-dbg, which is fetched (some hundred MB) and not kept, or what --debug names.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.Kernel, "kernel", "", "Debian package file, kernel image or package name")
	f.StringVar(&o.ModuleDir, "modules-dir", "", "the kernel image's lib/modules/RELEASE")
	f.StringVar(&o.Debug, "debug", "", "Debian package or vmlinux with the kernel's debugging information")
	f.StringSliceVar(&o.Modules, "modules", nil, "kernel modules to load (default: those that ss, mount and losetup call)")
	f.StringSliceVar(&o.Tools, "tools", nil, "packages of the toolbox (default: "+strings.Join(image.DefaultTools, ",")+")")
	f.StringVar(&o.Root, "rootfs", "", "take the toolbox from this folder")
	f.StringVar(&o.Name, "name", "", "name of the image (default: the kernel's release)")
	f.StringVar(&memory, "memory", "256M", "size of the trusted VM's RAM")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case o.Kernel == "":
			return usageError("emu image build needs --kernel DEB, VMLINUZ or PACKAGE")
		case o.Root != "" && len(o.Tools) > 0:
			return usageError("--rootfs and --tools exclude each other")
		}
		var err error
		if o.Memory, err = parseSize(memory); err != nil {
			return usageError("--memory: %w", err)
		}
		s, err := image.DefaultStore()
		if err != nil {
			return err
		}
		progress, done := statusLine(c.ErrOrStderr())
		i, err := s.Build(c.Context(), o, progress)
		done()
		if err != nil {
			return err
		}
		return printImage(c.OutOrStdout(), i, asJSON)
	}
	return c
}

// openImage opens an image of the default store.
func openImage(name string) (*image.Image, error) {
	s, err := image.DefaultStore()
	if err != nil {
		return nil, err
	}
	return s.Open(name)
}

func newImageListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "ls", Short: "List the trusted images", Args: cobra.NoArgs}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := image.DefaultStore()
		if err != nil {
			return err
		}
		all, err := s.List()
		if err != nil {
			return err
		}
		if asJSON {
			infos := []image.Info{}
			for _, i := range all {
				infos = append(infos, i.Info)
			}
			return printJSON(c.OutOrStdout(), infos)
		}
		for _, i := range all {
			fmt.Fprintf(c.OutOrStdout(), "%-32s %d bits, %d MiB on disk, %s\n", i.ID, i.Bits, diskUsage(i.Dir)>>20, i.Kernel)
		}
		return nil
	}
	return c
}

func newImageRunCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var accel string
	var stats bool
	c := &cobra.Command{
		Use:   "run NAME [flags] -- COMMAND [ARGUMENT]...",
		Short: "Run a command in a trusted VM, without a snapshot",
		Long: `Run restores the image's trusted VM and runs a command in it as emu inspect does, but nothing is redirected: the command sees the
trusted VM itself. The exit code is the command's, 125 if emu could not run it.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 || c.ArgsLenAtDash() != 1 {
				return usageError("emu image run needs NAME, then -- and a command")
			}
			return nil
		},
	}
	c.Flags().StringVar(&accel, "accel", "soft", "what runs the trusted VM: soft, kvm, or auto: KVM where it can be used")
	c.Flags().BoolVar(&stats, "stats", false, "say on standard error how long the command took")
	c.RunE = func(c *cobra.Command, args []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		cfg := session.Config{Log: log}
		if cfg.Accel, err = chooseAccel(accel, log); err != nil {
			return err
		}
		if cfg.Accel != nil {
			cfg.TimerSlack = inspect.TimerSlack
		}
		i, err := openImage(args[0])
		if err != nil {
			return err
		}
		code, took, err := runInImage(c, i, cfg, args[1:])
		switch {
		case err != nil:
			return &codedError{exitInspect, err}
		case stats:
			fmt.Fprintf(c.ErrOrStderr(), "run %v\n", took.Round(100*time.Microsecond))
		}
		if code != 0 {
			return &codedError{code: code}
		}
		return nil
	}
	return c
}

// runInImage returns the command's exit code and how long it took from the restored machine on.
func runInImage(c *cobra.Command, i *image.Image, cfg session.Config, argv []string) (code int, took time.Duration, err error) {
	state, err := i.State(c.Context(), image.Placement{}, nil)
	if err != nil {
		return 0, 0, err
	}
	s, err := session.Open(state, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	since := time.Now()
	code, err = s.Run(c.Context(), session.Command{Argv: argv, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()})
	return code, time.Since(since), err
}

func newImageInfoCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "info NAME", Short: "Say what is in a trusted image", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		i, err := openImage(args[0])
		if err != nil {
			return err
		}
		return printImage(c.OutOrStdout(), i, asJSON)
	}
	return c
}

func newImageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME...", Short: "Remove trusted images", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := image.DefaultStore()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := s.Remove(id); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func printImage(w io.Writer, i *image.Image, asJSON bool) error {
	if asJSON {
		return printJSON(w, i.Info)
	}
	fmt.Fprintf(w, "image        %s\n", i.ID)
	fmt.Fprintf(w, "folder       %s, %d MiB\n", i.Dir, diskUsage(i.Dir)>>20)
	fmt.Fprintf(w, "kernel       %s\n", i.Banner)
	fmt.Fprintf(w, "from         %s\n", i.Kernel)
	if i.BTFHash != "" {
		fmt.Fprintf(w, "BTF sha256   %s\n", i.BTFHash)
	}
	if i.Debug != "" {
		fmt.Fprintf(w, "types from   %s\n", i.Debug)
	}
	fmt.Fprintf(w, "memory       %d MiB\n", i.Memory>>20)
	fmt.Fprintf(w, "tools        %s\n", strings.Join(i.Tools, " "))
	fmt.Fprintf(w, "modules      %s\n", strings.Join(i.Modules, " "))
	return nil
}

// diskUsage is the sum of the sizes of the files below a folder, in bytes.
func diskUsage(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// statusLine returns a function that shows what is being done on one line, if w is a terminal, and one that removes the line.
func statusLine(w io.Writer) (show image.Progress, done func()) {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	return func(what string) { fmt.Fprintf(w, "\r%s ...\x1b[K", what) }, func() { fmt.Fprint(w, "\r\x1b[K") }
}
