package policy

import "slices"

// Category is what the paper calls the redirectability of an instruction (III-B), within one scope.
type Category uint8

// Categories.
const (
	Unknown          Category = iota // U: not seen yet
	Redirectable                     // R: every memory operand is the snapshot's
	NonRedirectable                  // NR: every memory operand is local
	SemiRedirectable                 // Semi: one operand of each kind
	BiRedirectable                   // Bi: now one, now the other, by execution context
	Neutral                          // N: no memory operand
)

var categoryNames = [...]string{"U", "R", "NR", "Semi", "Bi", "N"}

// String returns the paper's abbreviation.
func (c Category) String() string {
	if int(c) < len(categoryNames) {
		return categoryNames[c]
	}
	return "?"
}

// Route says which machine's memory an operand means.
type Route uint8

// Routes.
const (
	Local    Route = iota // the trusted VM's
	Snapshot              // the snapshot's
)

// String returns whose memory it is, in a word.
func (r Route) String() string {
	if r == Local {
		return "local"
	}
	return "snapshot"
}

// Reason says why an operand was routed so, by the rules of DESIGN section 5.
type Reason uint8

// Reasons.
const (
	ByDefault Reason = iota // rule 5: nothing speaks for the snapshot
	ByUser                  // rule 1: user space
	ByStack                 // rule 2: the current kernel stack
	ByTaint                 // rule 3: the pointer part is tainted
	ByRoot                  // rule 4: in a root of the scope
	BySubtree               // a function subtree that stays local
	ByHandler               // a handler's plan
	ByAddress               // the address tells whose it is, to the handler of U
)

var reasonNames = [...]string{"default", "user", "stack", "taint", "root", "subtree", "handler", "address"}

// String returns the reason in a word.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "?"
}

// Operand is a memory operand of an instruction.
type Operand struct {
	// Text is the operand in the disassembly's syntax, such as "[rax+0x10]"; "stack" for what PUSH, CALL and their kin
	// touch without naming it.
	Text        string
	Size        int // bytes; 0 if it varies
	Read, Write bool
	// What was seen at the first execution in this scope and context. For U it is what is known: whose the address is if it tells, and else
	// the trusted VM's by default.
	Route  Route
	Reason Reason
}

// Site is one instruction in one scope and execution context: all contexts, for one without memory operand (N), and one that emu cannot
// tell, for one of which nothing is known (U).
type Site struct {
	Scope string
	// Address is where the instruction is in this run; Symbol and Offset say where in any run, with Module "" for the
	// kernel itself.
	Address uint64
	Symbol  string
	Offset  uint64
	Module  string
	Bytes   []byte
	// Disassembly is in the Intel syntax of x86asm.
	Disassembly string
	Operands    []Operand
	Category    Category
	// Context are the return addresses from the system call's entry to here, innermost first, as symbol+offset; none for N and U.
	Context []string
}

// WriteRule says what a store into the snapshot does. The file itself is never written.
type WriteRule uint8

// Write rules.
const (
	PrivateCopy WriteRule = iota // the run sees what it wrote
	Discard                      // the store does nothing
	Refuse                       // the run ends with a finding
)

// Plan is what happens at a site. The zero Plan leaves every operand where the rules of DESIGN section 5 put it.
type Plan struct {
	// Routes overrides the route of the operands, in the order of Site.Operands; nil leaves them. User space and the kernel stack in use
	// are always the trusted VM's.
	Routes []Route
	// Writes is about stores into the snapshot, after Routes.
	Writes WriteRule
	// Elide skips the instruction.
	Elide bool
	// Frozen, if not nil, is what the instruction's loads yield instead of memory, untainted.
	Frozen *uint64
	// Trap ends the run with a finding that names the site and says Trap.
	Trap string
}

// Default reports whether p leaves the site as it is.
func (p *Plan) Default() bool {
	return p.Routes == nil && p.Writes == PrivateCopy && !p.Elide && p.Frozen == nil && p.Trap == ""
}

// Equal reports whether p and q say the same.
func (p *Plan) Equal(q *Plan) bool {
	frozen := p.Frozen == q.Frozen || p.Frozen != nil && q.Frozen != nil && *p.Frozen == *q.Frozen
	return frozen && slices.Equal(p.Routes, q.Routes) && p.Writes == q.Writes && p.Elide == q.Elide && p.Trap == q.Trap
}
