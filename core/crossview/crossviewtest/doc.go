// Package crossviewtest runs the inspection tools on the untrusted VMs' snapshots through emu, and judges what they print.
//
//	make test-crossview SNAPSHOT_SET='nokaslr kaslr' TOOLS='ps-.*|lsmod'
//	make test-same SNAPSHOT_SET='nokaslr kaslr' TOOLS='ps-.*|lsmod'
package crossviewtest
