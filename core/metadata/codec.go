package metadata

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/hybridbridge/emu/core/metadata/internal/metadatapb"
	"github.com/hybridbridge/emu/core/policy"
)

// format names the encoding in its first bytes.
const format = "emu Meta-Data"

// ErrFormat is wrapped by errors about bytes that are not Meta-Data, or are damaged.
var ErrFormat = errors.New("not Meta-Data, or damaged")

// SchemaError says that Meta-Data has another schema version than this program reads.
type SchemaError struct{ Version uint32 }

// Error says what to do about it.
func (e *SchemaError) Error() string {
	advice := "train again with this emu"
	if e.Version > SchemaVersion {
		advice = "use a newer emu"
	}
	return fmt.Sprintf("Meta-Data of schema version %d, but this emu knows version %d: %s", e.Version, SchemaVersion, advice)
}

// Encode returns sets in their binary form. The same knowledge gives the same bytes.
func Encode(sets map[Key]*Set) ([]byte, error) {
	m := &metadatapb.MetaData{}
	for _, k := range slices.SortedFunc(maps.Keys(sets), compareKeys) {
		m.Sets = append(m.Sets, toProto(k, sets[k]))
	}
	return seal(m)
}

func seal(m *metadatapb.MetaData) ([]byte, error) {
	deterministic := proto.MarshalOptions{Deterministic: true}
	body, err := deterministic.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return deterministic.Marshal(&metadatapb.Envelope{Format: format, SchemaVersion: SchemaVersion, Sha256: sum[:], Body: body})
}

// open is the inverse of seal.
func open(b []byte) (*metadatapb.MetaData, error) {
	var e metadatapb.Envelope
	if err := proto.Unmarshal(b, &e); err != nil || e.Format != format {
		return nil, ErrFormat
	}
	if e.SchemaVersion != SchemaVersion {
		return nil, &SchemaError{e.SchemaVersion}
	}
	if sum := sha256.Sum256(e.Body); !bytes.Equal(sum[:], e.Sha256) {
		return nil, fmt.Errorf("%w: its SHA-256 does not match", ErrFormat)
	}
	var m metadatapb.MetaData
	if err := proto.Unmarshal(e.Body, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &m, nil
}

// Decode is the inverse of Encode. Errors wrap ErrFormat or are a *SchemaError.
func Decode(b []byte) (map[Key]*Set, error) {
	m, err := open(b)
	if err != nil {
		return nil, err
	}
	sets := map[Key]*Set{}
	for _, p := range m.Sets {
		k := Key{p.Banner, p.BtfHash, p.Policy}
		if err := k.Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if sets[k] != nil {
			return nil, fmt.Errorf("%w: it has two sets of key %s", ErrFormat, k)
		}
		s, err := fromProto(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		sets[k] = s
	}
	return sets, nil
}

// head is what a Store has of a set beside its parts.
type head struct {
	trainings []Training
	scopes    map[ScopeID]bool // see Set.Redirects
}

func encodeHead(k Key, s *Set) ([]byte, error) {
	p := toProto(k, &Set{trainings: s.trainings})
	for _, id := range s.Scopes() {
		redirects, _ := s.Redirects(id)
		p.Parts = append(p.Parts, &metadatapb.Part{Name: id.Name, Syscall: id.Syscall, Redirects: redirects})
	}
	return seal(&metadatapb.MetaData{Sets: []*metadatapb.Set{p}})
}

func decodeHead(b []byte, k Key) (*head, error) {
	m, err := open(b)
	if err != nil {
		return nil, err
	}
	if len(m.Sets) != 1 || (Key{m.Sets[0].Banner, m.Sets[0].BtfHash, m.Sets[0].Policy}) != k {
		return nil, fmt.Errorf("%w: another key's is stored under %s", ErrFormat, k)
	}
	s, err := fromProto(m.Sets[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	h := &head{s.trainings, map[ScopeID]bool{}}
	for _, p := range m.Sets[0].Parts {
		h.scopes[ScopeID{p.Name, p.Syscall}] = p.Redirects
	}
	return h, nil
}

// encoder collects the tables of a set.
type encoder struct {
	strings map[string]uint32
	frames  map[frameKey]uint32
	table   []*metadatapb.Frame
}

// frameKey is a node in the tree of paths; outer is as in metadatapb.Frame.
type frameKey struct {
	outer uint32
	frame Frame
}

func toProto(k Key, s *Set) *metadatapb.Set {
	e := &encoder{map[string]uint32{}, map[frameKey]uint32{}, nil}
	p := &metadatapb.Set{Banner: k.Banner, BtfHash: k.BTFHash, Policy: k.Policy, Strings: e.collect(s)}
	for _, l := range slices.SortedFunc(maps.Keys(s.allSymbols()), Location.compare) {
		y, _ := s.Symbol(l)
		p.Symbols = append(p.Symbols, &metadatapb.Symbol{
			Module: e.strings[l.Module], Offset: l.Offset, Function: e.strings[y.Function], FunctionOffset: y.Offset,
		})
	}
	for _, id := range s.Scopes() {
		scope := &metadatapb.Scope{Name: e.strings[id.Name], Syscall: e.strings[id.Syscall]}
		sites := s.Sites(id)
		for i := range sites {
			scope.Sites = append(scope.Sites, e.site(&sites[i]))
		}
		p.Scopes = append(p.Scopes, scope)
	}
	for _, t := range s.trainings {
		out := &metadatapb.Training{Snapshot: t.Snapshot, Instructions: t.Instructions, Partial: t.Partial}
		for _, arg := range t.Command {
			out.Command = append(out.Command, []byte(arg))
		}
		for _, id := range t.Scopes {
			out.Scopes = append(out.Scopes, &metadatapb.ScopeID{Name: e.strings[id.Name], Syscall: e.strings[id.Syscall]})
		}
		p.Trainings = append(p.Trainings, out)
	}
	p.Frames = e.table
	return p
}

// collect numbers all strings of a set.
func (e *encoder) collect(s *Set) []string {
	add := func(text string) { e.strings[text] = 0 }
	for l, y := range s.allSymbols() {
		add(l.Module)
		add(y.Function)
	}
	for _, t := range s.trainings {
		for _, id := range t.Scopes {
			add(id.Name)
			add(id.Syscall)
		}
	}
	for _, id := range s.Scopes() {
		add(id.Name)
		add(id.Syscall)
		sites := s.Sites(id)
		for i := range sites {
			add(sites[i].Module)
			for _, o := range sites[i].Operands {
				add(o.Text)
			}
			for _, c := range sites[i].Contexts {
				for _, f := range c.Path {
					add(f.Return.Module)
				}
			}
		}
	}
	sorted := slices.Sorted(maps.Keys(e.strings))
	for i, text := range sorted {
		e.strings[text] = uint32(i)
	}
	return sorted
}

func (e *encoder) site(s *Site) *metadatapb.Site {
	p := &metadatapb.Site{Module: e.strings[s.Module], Offset: s.Offset, Code: s.Bytes, Category: uint32(s.Category)}
	if s.Bits != 64 {
		p.Bits = uint32(s.Bits)
	}
	for _, o := range s.Operands {
		p.Operands = append(p.Operands, &metadatapb.Operand{
			Text: e.strings[o.Text], Size: o.Size, Read: o.Read, Write: o.Write, Seen: uint32(o.Seen),
		})
	}
	for i := range s.Contexts {
		c := &s.Contexts[i]
		p.Contexts = append(p.Contexts, &metadatapb.Context{
			Frame: e.path(c.Path), Routes: routeBytes(c.Routes), Plan: planToProto(&c.Plan), Marks: uint32(c.Marks),
		})
	}
	return p
}

func (e *encoder) path(path []Frame) uint32 {
	node := uint32(0)
	for _, f := range slices.Backward(path) {
		k := frameKey{node, f}
		if e.frames[k] == 0 {
			e.table = append(e.table, &metadatapb.Frame{
				Outer: node, Module: e.strings[f.Return.Module], Offset: f.Return.Offset, Depth: f.Depth,
			})
			e.frames[k] = uint32(len(e.table))
		}
		node = e.frames[k]
	}
	return node
}

func routeBytes(routes []policy.Route) []byte {
	var b []byte
	for _, r := range routes {
		b = append(b, byte(r))
	}
	return b
}

func routesOf(b []byte) []policy.Route {
	var routes []policy.Route
	for _, r := range b {
		routes = append(routes, policy.Route(r))
	}
	return routes
}

func planToProto(p *policy.Plan) *metadatapb.Plan {
	if p.Default() {
		return nil
	}
	return &metadatapb.Plan{
		Routes: routeBytes(p.Routes), Writes: uint32(p.Writes), Elide: p.Elide, Frozen: p.Frozen, Trap: p.Trap,
	}
}

func planFromProto(p *metadatapb.Plan) policy.Plan {
	if p == nil {
		return policy.Plan{}
	}
	return policy.Plan{
		Routes: routesOf(p.Routes), Writes: policy.WriteRule(min(p.Writes, 255)), Elide: p.Elide, Frozen: p.Frozen, Trap: p.Trap,
	}
}

// decoder looks up in the tables of a set, and remembers the first index that was out of range.
type decoder struct {
	strings []string
	paths   [][]Frame
	err     error
}

func (d *decoder) string(i uint32) string {
	if uint64(i) >= uint64(len(d.strings)) {
		d.err = cmp.Or(d.err, fmt.Errorf("string %d of %d", i, len(d.strings)))
		return ""
	}
	return d.strings[i]
}

func (d *decoder) path(i uint32) []Frame {
	if uint64(i) >= uint64(len(d.paths)) {
		d.err = cmp.Or(d.err, fmt.Errorf("frame %d of %d", i, len(d.paths)))
		return nil
	}
	return d.paths[i]
}

// maxPath is the number of return addresses that fit on a stack.
const maxPath = maxDepth / 8

func fromProto(p *metadatapb.Set) (*Set, error) {
	d := &decoder{strings: p.Strings, paths: [][]Frame{nil}}
	total := 0
	for _, f := range p.Frames {
		outer := d.path(f.Outer)
		// Each path is written out once for all sites that share it; a hostile file could make that quadratic.
		if total += len(outer) + 1; len(outer) >= maxPath || total > 1<<26 {
			return nil, fmt.Errorf("the paths of its contexts are too long")
		}
		frame := Frame{Location{d.string(f.Module), f.Offset}, f.Depth}
		d.paths = append(d.paths, append([]Frame{frame}, outer...))
	}
	s := &Set{}
	for _, y := range p.Symbols {
		s.AddSymbol(Location{d.string(y.Module), y.Offset}, Symbol{d.string(y.Function), y.FunctionOffset})
	}
	for _, scope := range p.Scopes {
		sites := make([]Site, len(scope.Sites))
		for i, site := range scope.Sites {
			sites[i] = d.site(site)
		}
		if err := s.Add(ScopeID{d.string(scope.Name), d.string(scope.Syscall)}, sites...); err != nil {
			return nil, cmp.Or(d.err, err)
		}
	}
	for _, t := range p.Trainings {
		out := Training{Snapshot: t.Snapshot, Instructions: t.Instructions, Partial: t.Partial}
		for _, arg := range t.Command {
			out.Command = append(out.Command, string(arg))
		}
		for _, id := range t.Scopes {
			out.Scopes = append(out.Scopes, ScopeID{d.string(id.Name), d.string(id.Syscall)})
		}
		s.AddTraining(out)
	}
	return s, d.err
}

func (d *decoder) site(p *metadatapb.Site) Site {
	s := Site{
		Location: Location{d.string(p.Module), p.Offset}, Bytes: p.Code, Bits: uint8(min(p.Bits, 255)),
		Category: policy.Category(min(p.Category, 255)),
	}
	for _, o := range p.Operands {
		s.Operands = append(s.Operands, Operand{d.string(o.Text), o.Size, o.Read, o.Write, Seen(o.Seen)})
	}
	for _, c := range p.Contexts {
		s.Contexts = append(s.Contexts, Context{d.path(c.Frame), Decision{routesOf(c.Routes), planFromProto(c.Plan)}, Marks(c.Marks) & allMarks})
	}
	return s
}
