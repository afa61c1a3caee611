// Package metadata is what emu has learned about a kernel under a policy: the paper's Meta-Data (HYBRID-BRIDGE, III).
//
// SLOW-BRIDGE records which instructions it saw in a system call, what each of them touched and in which execution
// context (Set). What several runs learned is merged; merging is commutative, associative and idempotent, so it does
// not matter who learned what first, or twice. A Store keeps one Set for each kernel and policy (Key) in a file that
// several processes share. An Index answers at run time what is known about a site, and for a Bi site a Tree tells its
// contexts apart by a few return addresses on the stack. An Outline is what FAST-BRIDGE needs of most sites, which a Store keeps beside
// each scope. Start at Set and Site.
package metadata
