// Package crossview judges introspection: it compares what a tool printed through emu about a snapshot with what the
// same tool printed inside the untrusted VM just before and just after that snapshot was taken.
//
// What both truths agree on must be in the output, in their order. A number in which they differ must lie between them. A
// process that only one of them has (the tool's own, as a rule) is not asked for. What neither has is foreign, unless
// it belongs to the tool's own process. Everything that softens these rules for one tool is a Rule in the table of specs,
// with its reason.
package crossview
