// Package debian gets Debian packages and reads them. Which packages are needed is for apt to say; it runs on a state of its
// own, so that the host's lists, its dpkg and its architectures stay as they are and no root is needed. Start at Apt and Open.
package debian
