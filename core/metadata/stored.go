package metadata

import (
	"cmp"
	"fmt"
	"sync"
)

// stored is the part of a Set that a Store has and that nobody has asked for yet.
type stored struct {
	scopes  map[ScopeID]*part
	symbols *part
	failed  *failure // of all parts
}

// part is a Set with one scope, or with symbols alone.
type part struct {
	read      func() ([]byte, error) // the form of Encode
	digest    []byte                 // of it
	outline   []byte                 // see Outline; nil in stores of older versions
	redirects bool                   // see Set.Redirects
	key       Key
	failed    *failure
	once      sync.Once
	set       *Set
}

// failure is the first error of a part. Parts may be decoded by several goroutines.
type failure struct {
	mu      sync.Mutex
	err     error
	explain func(error) error // says in which file, and what to do
}

// decode returns what is in a part. If it is damaged, that is nothing, and Err says so.
func (p *part) decode() *Set {
	p.once.Do(func() {
		code, err := p.read()
		var sets map[Key]*Set
		if err == nil {
			sets, err = Decode(code)
		}
		if p.set = sets[p.key]; err == nil && p.set == nil {
			err = fmt.Errorf("%w: another key's is stored under %s", ErrFormat, p.key)
		}
		p.read = nil
		if err != nil {
			p.set = &Set{}
			p.failed.mu.Lock()
			p.failed.err = cmp.Or(p.failed.err, err)
			p.failed.mu.Unlock()
		}
	})
	return p.set
}

// Err is about what Store.LoadLazily left in the file's form and what was found to be damaged when it was asked for: it is missing.
func (s *Set) Err() error {
	if err := s.stored.failed.first(); err != nil {
		return s.stored.failed.explain(err)
	}
	return nil
}

func (f *failure) first() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// complete decodes all that is left.
func (s *Set) complete() error {
	for id := range s.stored.scopes {
		s.setSites(id, s.Sites(id))
	}
	s.symbols, s.stored.symbols = s.allSymbols(), nil
	return s.Err()
}

func (s *Set) allSymbols() map[Location]Symbol {
	if s.stored.symbols != nil {
		return s.stored.symbols.decode().symbols
	}
	return s.symbols
}
