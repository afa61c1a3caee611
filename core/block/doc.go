// Package block keeps the contents of disks: raw files, qcow2 images with backing files, and an overlay that holds
// writes in memory so that a run repeats exactly. Start at Open and Disk.
package block
