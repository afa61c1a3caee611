// Package imagetest builds a trusted image of a Debian kernel and runs commands in it. It has tests only, under the build tag
// boot, and needs Debian's packages:
//
//	go test -tags boot -timeout 20m ./core/image/imagetest -guests DIR
package imagetest
