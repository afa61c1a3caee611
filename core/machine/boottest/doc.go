// Package boottest boots Debian's kernels in emu, the program, and looks at everything that a user would: the console,
// the exit code, the statistics and the memory. It has tests only, under the build tag boot:
//
//	make test-boot
//	go test -tags boot -timeout 60m ./core/machine/boottest -guests DIR [-run TestKernels/cloud-6.1]
package boottest
