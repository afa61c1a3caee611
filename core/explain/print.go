package explain

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// categories are in the paper's order.
var categories = []policy.Category{
	policy.Redirectable, policy.NonRedirectable, policy.SemiRedirectable, policy.BiRedirectable, policy.Neutral, policy.Unknown,
}

// Count writes numbers by category, such as "3 R, 5 NR".
func Count(counts map[string]int) string {
	var parts []string
	for _, c := range categories {
		if n := counts[c.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c))
		}
	}
	return strings.Join(parts, ", ")
}

var header = []string{"line", "type", "address", "bytes", "original code page", "non-redirectable code page", "redirectable code page", "why"}

// Print writes the listing as the paper's figure, one function after the other.
func (l *Listing) Print(w io.Writer) error {
	var out bytes.Buffer
	name := l.Syscall
	if l.Scope != "" {
		name += " (" + l.Scope + ")"
	}
	fmt.Fprintf(&out, "%s: %s; functions: %d\n", name, Count(l.Counts), len(l.Functions))
	if len(l.Commands) > 0 {
		fmt.Fprintf(&out, "trained by: %s\n", strings.Join(l.Commands, "; "))
	}
	widths := widthsOf(header)
	for _, f := range l.Functions {
		for _, line := range f.Lines {
			for i, cell := range widthsOf(line.cells()) {
				widths[i] = max(widths[i], cell)
			}
		}
	}
	out.WriteByte('\n')
	row(&out, widths, header)
	for _, f := range l.Functions {
		fmt.Fprintf(&out, "%s:\n", f.title())
		for _, line := range f.Lines {
			row(&out, widths, line.cells())
			for _, n := range line.notes() {
				fmt.Fprintf(&out, "%*s  %s\n", widths[0]+widths[1]+2, "", n)
			}
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (f *Function) title() string {
	if f.Module == "" {
		return f.Name
	}
	return f.Name + " [" + f.Module + "]"
}

func (l *Line) cells() []string {
	number := ""
	if l.Number > 0 {
		number = fmt.Sprint(l.Number)
	}
	return []string{number, l.Category, l.Address, l.Bytes, l.Original, l.NonRedirectable, l.Redirectable, strings.Join(l.Why, "; ")}
}

func (l *Line) notes() []string {
	var notes []string
	for _, p := range l.Plan {
		notes = append(notes, "plan: "+p)
	}
	for _, d := range l.Decide {
		notes = append(notes, "if "+d)
	}
	for _, c := range l.Conflicts {
		notes = append(notes, "conflict: "+c)
	}
	return notes
}

func widthsOf(cells []string) []int {
	widths := make([]int, len(cells))
	for i, c := range cells {
		widths[i] = len(c)
	}
	return widths
}

// row writes cells in columns, the first flush right.
func row(w io.Writer, widths []int, cells []string) {
	padded := slices.Clone(cells)
	for i, c := range cells {
		if i == 0 {
			padded[i] = fmt.Sprintf("%*s", widths[i], c)
		} else {
			padded[i] = fmt.Sprintf("%-*s", widths[i], c)
		}
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(padded, "  "), " "))
}

// IsCategory says whether a name is a category's, in either case.
func IsCategory(name string) bool {
	return slices.ContainsFunc(categories, func(c policy.Category) bool { return strings.EqualFold(c.String(), name) })
}

// Show writes a set by system call, function and instruction, with category and reason.
func Show(w io.Writer, key metadata.Key, s *metadata.Set) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n  banner      %s\n  BTF sha256  %s\n  policy      %s\n", key.ID(), key.Banner, key.BTFHash, key.Policy)
	for _, t := range s.Trainings() {
		stopped := ""
		if t.Partial {
			stopped = ", stopped then"
		}
		fmt.Fprintf(&out, "  training    %s (snapshot %s, %d instructions%s)\n", strings.Join(t.Command, " "), t.Snapshot, t.Instructions, stopped)
	}
	for _, id := range s.Scopes() {
		l := New(s, id)
		fmt.Fprintf(&out, "\n%s: %s\n", id, Count(l.Counts))
		for _, f := range l.Functions {
			fmt.Fprintf(&out, "  %s\n", f.title())
			for _, line := range f.Lines {
				if line.Number == 0 {
					continue
				}
				text := fmt.Sprintf("    %-16s  %-4s  %-40s  %s", line.Address, line.Category, line.Original, strings.Join(line.Why, "; "))
				fmt.Fprintln(&out, strings.TrimRight(text, " "))
				for _, n := range line.notes() {
					fmt.Fprintf(&out, "        %s\n", n)
				}
			}
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}
