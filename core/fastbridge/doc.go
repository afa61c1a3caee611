// Package fastbridge is FAST-BRIDGE: it lets a trusted VM that runs on any vCPU, KVM's above all, see a snapshot without looking
// at each instruction. The kernel half of the address space exists in two views, two roots of page tables: in the
// non-redirected view addresses are the trusted VM's, in the redirected view the snapshot's. Both have the trusted kernel's code,
// in which all is int3 but the instructions that Meta-Data knows to be right in that view. Since the trusted VM's RAM lies above
// the snapshot's (docs/decisions/redirection.md), the direct map and vmemmap of both machines are in both views, and only
// what touches variables of the kernel's image and vmalloc space must be in the right one, or be displaced onto their aliases.
//
// Start at Bridge. monitor has the code in the guest that takes int3, tables.go makes the views, code.go their code pages,
// sites.go says where an instruction may run, group.go, jump.go and area.go execute it elsewhere by a jump, alias.go and displaced.go by int3, copy.go
// has local functions run in a view, rules.go has the monitor find scopes by paths, outside.go is what holds outside scopes, ask.go answers the monitor, interpret.go executes what
// the guest cannot, and what handlers' plans change, unseen.go asks handlers about what SLOW-BRIDGE has never seen.
// docs/fast-bridge.md follows one int3 from patch to resume.
package fastbridge
