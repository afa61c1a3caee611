package metadata

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hybridbridge/emu/core/policy"
)

// The JSON form says the same as the binary one, without its tables: for people and other programs.
type (
	jsonFile struct {
		Format        string    `json:"format"`
		SchemaVersion uint32    `json:"schema_version"`
		Sets          []jsonSet `json:"sets"`
	}
	jsonSet struct {
		ID        string         `json:"id"`
		Banner    string         `json:"banner"`
		BTFHash   string         `json:"btf_sha256"`
		Policy    string         `json:"policy"`
		Trainings []jsonTraining `json:"trainings"`
		Scopes    []jsonScope    `json:"scopes"`
		Symbols   []jsonSymbol   `json:"symbols"`
	}
	jsonTraining struct {
		Command      []string      `json:"command"`
		Snapshot     string        `json:"snapshot"`
		Instructions uint64        `json:"instructions"`
		Partial      bool          `json:"partial,omitempty"`
		Scopes       []jsonScopeID `json:"scopes"`
	}
	jsonScopeID struct {
		Name    string `json:"name"`
		Syscall string `json:"syscall"`
	}
	jsonScope struct {
		jsonScopeID
		Sites []jsonSite `json:"sites"`
	}
	jsonLocation struct {
		Module string    `json:"module,omitempty"`
		Offset hexNumber `json:"offset"`
	}
	jsonSymbol struct {
		jsonLocation
		Function       string    `json:"function"`
		FunctionOffset hexNumber `json:"function_offset"`
	}
	jsonSite struct {
		jsonLocation
		Symbol   string        `json:"symbol,omitempty"` // for reading only
		Bytes    hexBytes      `json:"bytes"`
		Bits     uint8         `json:"bits"`
		Category string        `json:"category"`
		Operands []jsonOperand `json:"operands,omitempty"`
		Contexts []jsonContext `json:"contexts,omitempty"`
	}
	jsonOperand struct {
		Text  string     `json:"text"`
		Size  uint32     `json:"size"`
		Read  bool       `json:"read,omitempty"`
		Write bool       `json:"write,omitempty"`
		Seen  []jsonSeen `json:"seen"`
	}
	jsonSeen struct {
		Route  string `json:"route"`
		Reason string `json:"reason"`
	}
	jsonContext struct {
		Path   []jsonFrame `json:"path"`
		Routes []string    `json:"routes"`
		Plan   *jsonPlan   `json:"plan,omitempty"`
		Marks  []string    `json:"marks,omitempty"`
	}
	jsonFrame struct {
		jsonLocation
		Symbol string    `json:"symbol,omitempty"` // for reading only
		Depth  hexNumber `json:"depth"`
	}
	jsonPlan struct {
		Routes []string   `json:"routes,omitempty"`
		Writes string     `json:"writes,omitempty"`
		Elide  bool       `json:"elide,omitempty"`
		Frozen *hexNumber `json:"frozen,omitempty"`
		Trap   string     `json:"trap,omitempty"`
	}
)

// hexNumber is a hexadecimal string, for readers without 64-bit integers.
type hexNumber uint64

// MarshalText implements encoding.TextMarshaler.
func (n hexNumber) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(n)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *hexNumber) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 0, 64)
	*n = hexNumber(v)
	return err
}

type hexBytes []byte

// MarshalText implements encoding.TextMarshaler.
func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}

// Enumerations by name; the index is the value.
var (
	routeNames  = []string{policy.Local: "local", policy.Snapshot: "snapshot"}
	writesNames = []string{policy.PrivateCopy: "private copy", policy.Discard: "discard", policy.Refuse: "refuse"}
)

// names lists an enumeration up to its greatest value.
func names[T interface {
	~uint8
	String() string
}](last T) []string {
	var out []string
	for v := range last + 1 {
		out = append(out, v.String())
	}
	return out
}

// parser turns names into values, and remembers the first one that it does not know.
type parser struct{ err error }

func (p *parser) value(what string, names []string, name string) uint8 {
	i := slices.Index(names, name)
	if i < 0 {
		p.err = errors.Join(p.err, fmt.Errorf("unknown %s %q", what, name))
		return 0
	}
	return uint8(i)
}

func (p *parser) routes(in []string) []policy.Route {
	var out []policy.Route
	for _, r := range in {
		out = append(out, policy.Route(p.value("route", routeNames, r)))
	}
	return out
}

func namesOfRoutes(in []policy.Route) []string {
	out := []string{}
	for _, r := range in {
		out = append(out, routeNames[r])
	}
	return out
}

// EncodeJSON returns sets as indented JSON. The same knowledge gives the same bytes.
func EncodeJSON(sets map[Key]*Set) ([]byte, error) {
	f := jsonFile{format, SchemaVersion, []jsonSet{}}
	for _, k := range slices.SortedFunc(maps.Keys(sets), compareKeys) {
		f.Sets = append(f.Sets, toJSON(k, sets[k]))
	}
	b, err := json.MarshalIndent(f, "", " ")
	return append(b, '\n'), err
}

// DecodeJSON is the inverse of EncodeJSON. Errors wrap ErrFormat or are a *SchemaError.
func DecodeJSON(b []byte) (map[Key]*Set, error) {
	var f jsonFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if f.Format != format {
		return nil, fmt.Errorf("%w: its format is %q, not %q", ErrFormat, f.Format, format)
	}
	if f.SchemaVersion != SchemaVersion {
		return nil, &SchemaError{f.SchemaVersion}
	}
	sets := map[Key]*Set{}
	for i := range f.Sets {
		j := &f.Sets[i]
		k := Key{j.Banner, j.BTFHash, j.Policy}
		if err := k.Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		s, err := j.set()
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFormat, k, err)
		}
		if sets[k] == nil {
			sets[k] = &Set{}
		}
		sets[k].Merge(s)
	}
	return sets, nil
}

func toJSON(k Key, s *Set) jsonSet {
	j := jsonSet{
		ID: k.ID(), Banner: k.Banner, BTFHash: k.BTFHash, Policy: k.Policy,
		Trainings: []jsonTraining{}, Scopes: []jsonScope{}, Symbols: []jsonSymbol{},
	}
	for _, t := range s.trainings {
		out := jsonTraining{t.Command, t.Snapshot, t.Instructions, t.Partial, []jsonScopeID{}}
		for _, id := range t.Scopes {
			out.Scopes = append(out.Scopes, jsonScopeID(id))
		}
		j.Trainings = append(j.Trainings, out)
	}
	for _, id := range s.Scopes() {
		scope := jsonScope{jsonScopeID(id), nil}
		sites := s.Sites(id)
		for i := range sites {
			scope.Sites = append(scope.Sites, siteToJSON(s, &sites[i]))
		}
		j.Scopes = append(j.Scopes, scope)
	}
	for _, l := range slices.SortedFunc(maps.Keys(s.allSymbols()), Location.compare) {
		y, _ := s.Symbol(l)
		j.Symbols = append(j.Symbols, jsonSymbol{locationToJSON(l), y.Function, hexNumber(y.Offset)})
	}
	return j
}

func locationToJSON(l Location) jsonLocation { return jsonLocation{l.Module, hexNumber(l.Offset)} }

func (l jsonLocation) location() Location { return Location{l.Module, uint64(l.Offset)} }

func symbolName(s *Set, l Location) string {
	if y, ok := s.Symbol(l); ok {
		return y.String()
	}
	return ""
}

func siteToJSON(s *Set, site *Site) jsonSite {
	j := jsonSite{
		jsonLocation: locationToJSON(site.Location), Symbol: symbolName(s, site.Location),
		Bytes: site.Bytes, Bits: site.Bits, Category: site.Category.String(),
	}
	for _, o := range site.Operands {
		out := jsonOperand{o.Text, o.Size, o.Read, o.Write, []jsonSeen{}}
		for route, reason := range o.Seen.All() {
			out.Seen = append(out.Seen, jsonSeen{routeNames[route], reason.String()})
		}
		j.Operands = append(j.Operands, out)
	}
	for i := range site.Contexts {
		c := &site.Contexts[i]
		out := jsonContext{Path: []jsonFrame{}, Routes: namesOfRoutes(c.Routes)}
		for _, f := range c.Path {
			out.Path = append(out.Path, jsonFrame{locationToJSON(f.Return), symbolName(s, f.Return), hexNumber(f.Depth)})
		}
		if !c.Plan.Default() {
			out.Plan = &jsonPlan{namesOfRoutes(c.Plan.Routes), writesNames[c.Plan.Writes], c.Plan.Elide, (*hexNumber)(c.Plan.Frozen), c.Plan.Trap}
		}
		for i, name := range markNames {
			if c.Marks&(1<<i) != 0 {
				out.Marks = append(out.Marks, name)
			}
		}
		j.Contexts = append(j.Contexts, out)
	}
	return j
}

func (j *jsonSet) set() (*Set, error) {
	p := &parser{}
	s := &Set{}
	for _, y := range j.Symbols {
		s.AddSymbol(y.location(), Symbol{y.Function, uint64(y.FunctionOffset)})
	}
	for _, t := range j.Trainings {
		out := Training{Snapshot: t.Snapshot, Command: t.Command, Instructions: t.Instructions, Partial: t.Partial}
		for _, id := range t.Scopes {
			out.Scopes = append(out.Scopes, ScopeID(id))
		}
		s.AddTraining(out)
	}
	for _, scope := range j.Scopes {
		var sites []Site
		for i := range scope.Sites {
			sites = append(sites, p.site(&scope.Sites[i]))
		}
		if p.err != nil {
			return nil, p.err
		}
		if err := s.Add(ScopeID(scope.jsonScopeID), sites...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (p *parser) site(j *jsonSite) Site {
	s := Site{
		Location: j.location(), Bytes: j.Bytes, Bits: j.Bits,
		Category: policy.Category(p.value("category", names(policy.Neutral), j.Category)),
	}
	for _, o := range j.Operands {
		out := Operand{o.Text, o.Size, o.Read, o.Write, 0}
		for _, seen := range o.Seen {
			out.Seen |= SeenAs(policy.Route(p.value("route", routeNames, seen.Route)),
				policy.Reason(p.value("reason", names(policy.ByHandler), seen.Reason)))
		}
		s.Operands = append(s.Operands, out)
	}
	for _, c := range j.Contexts {
		out := Context{Decision: Decision{Routes: p.routes(c.Routes)}}
		for _, f := range c.Path {
			out.Path = append(out.Path, Frame{f.location(), uint32(min(f.Depth, maxDepth+1))})
		}
		if c.Plan != nil {
			out.Plan = policy.Plan{
				Routes: p.routes(c.Plan.Routes), Elide: c.Plan.Elide, Frozen: (*uint64)(c.Plan.Frozen), Trap: c.Plan.Trap,
				Writes: policy.WriteRule(p.value("write rule", writesNames, c.Plan.Writes)),
			}
		}
		for _, m := range c.Marks {
			out.Marks |= 1 << p.value("mark", markNames[:], m)
		}
		s.Contexts = append(s.Contexts, out)
	}
	return s
}
