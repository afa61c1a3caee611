package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// job is what the host asks of the guest: one JSON value on the port, before anything else.
type job struct {
	Argv, Env []string
	WorkDir   string
	Mounts    []mount
	Out       []string // folders or files to send after the command
}

// mount is a disk's file system, or a file of it.
type mount struct {
	Serial string // the disk's serial number
	File   string // in the disk, or "" for all of it
	Target string // absolute
}

// kind is what a frame from guest to host carries.
type kind byte

const (
	frameStdout kind = iota
	frameStderr
	frameTar    // a piece of the archive of job.Out; names begin with the index in it
	frameExit   // 1 byte: the command's exit code; the last frame
	frameFailed // the guest's complaint, instead of frameExit
)

// maxFrame bounds the payload of a frame, in bytes.
const maxFrame = 1 << 16

// framer writes frames: kind, length (4 bytes, little-endian), payload. Several goroutines may use it.
type framer struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *framer) send(k kind, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.LittleEndian.AppendUint32([]byte{byte(k)}, uint32(len(p)))
	_, err := f.w.Write(append(head, p...))
	return err
}

// stream is a writer whose bytes become frames of one kind.
type stream struct {
	f *framer
	k kind
}

func (s stream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += maxFrame {
		if err := s.f.send(s.k, p[n:min(n+maxFrame, len(p))]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// receive reads a frame.
func receive(r io.Reader) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return kind(head[0]), p, err
}
