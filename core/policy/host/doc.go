// Package host runs policies: programs of a directory, named by its manifest with their checksums, which are started when they
// are first asked and speak the protocol of package protocol. Whatever one of them does wrong is an error that names it.
// Start at Open; Host answers for all, Plugin is one of them.
package host
