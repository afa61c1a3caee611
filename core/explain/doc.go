// Package explain shows Meta-Data to people: the paper's figure of the code pages (HYBRID-BRIDGE, Fig. 3) for any system
// call that was trained.
package explain
