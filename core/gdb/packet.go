package gdb

import (
	"bufio"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// maxPacket is the longest packet that is accepted, in bytes between $ and #; gdb is told.
const maxPacket = 0x4000

// event is something that gdb sent.
type event struct {
	packet    []byte
	interrupt bool // Ctrl-C, outside of packets
	ack, nak  bool
	bad       bool // a packet with a wrong checksum, or too long a one
}

// parser takes the byte stream apart (GDB manual, E.1 Overview).
type parser struct {
	state   parserState
	buf     []byte
	sum     byte // of the bytes as sent
	claimed [2]byte
	long    bool
}

type parserState uint8

const (
	outside parserState = iota
	inside
	escaped
	firstDigit
	secondDigit
)

// feed takes one byte. ok says that it completed an event.
func (p *parser) feed(b byte) (e event, ok bool) {
	switch p.state {
	case firstDigit:
		p.claimed[0], p.state = b, secondDigit
		return e, false
	case secondDigit:
		p.claimed[1], p.state = b, outside
		var sum [1]byte
		if _, err := hex.Decode(sum[:], p.claimed[:]); err != nil || sum[0] != p.sum || p.long {
			return event{bad: true}, true
		}
		return event{packet: append([]byte{}, p.buf...)}, true
	case outside:
		switch b {
		case '$':
			p.begin()
		case '+':
			return event{ack: true}, true
		case '-':
			return event{nak: true}, true
		case 3:
			return event{interrupt: true}, true
		}
		return e, false
	}
	switch {
	case b == '$': // the packet before it lost its end
		p.begin()
		return e, false
	case b == '#':
		p.long = p.long || p.state == escaped
		p.state = firstDigit
		return e, false
	case p.state == escaped:
		p.add(b ^ 0x20)
		p.state = inside
	case b == '}':
		p.state = escaped
	default:
		p.add(b)
	}
	p.sum += b
	return e, false
}

func (p *parser) begin() { *p = parser{state: inside, buf: p.buf[:0]} }

func (p *parser) add(b byte) {
	if len(p.buf) == maxPacket {
		p.long = true
		return
	}
	p.buf = append(p.buf, b)
}

// frame makes a packet of data: escaped, with its checksum.
func frame(data string) []byte {
	b := make([]byte, 1, len(data)+4)
	b[0] = '$'
	var sum byte
	for _, c := range []byte(data) {
		switch c {
		case '$', '#', '}', '*':
			b = append(b, '}')
			sum += '}'
			c ^= 0x20
		}
		b = append(b, c)
		sum += c
	}
	return append(b, '#', hexDigits[sum>>4], hexDigits[sum&15])
}

const hexDigits = "0123456789abcdef"

// link is a connection to gdb.
type link struct {
	conn   net.Conn
	events chan event // packets and interrupts; closed when gdb is gone
	noAck  atomic.Bool
	done   chan struct{}

	mu   sync.Mutex
	last []byte // what to send again if gdb asks
}

func newLink(c net.Conn) *link {
	l := &link{conn: c, events: make(chan event), done: make(chan struct{})}
	go l.read()
	return l
}

// close ends the connection and the goroutine that reads from it.
func (l *link) close() {
	close(l.done)
	_ = l.conn.Close() // nothing is buffered, and gdb is not asked for an opinion
}

func (l *link) read() {
	defer close(l.events)
	r := bufio.NewReader(l.conn)
	var p parser
	for {
		b, err := r.ReadByte()
		if err != nil {
			return // gdb is gone
		}
		e, ok := p.feed(b)
		switch {
		case !ok || e.ack:
			continue
		case e.nak:
			err = l.again()
		case e.bad:
			err = l.acknowledge('-')
		default:
			if !e.interrupt {
				err = l.acknowledge('+')
			}
			select {
			case l.events <- e:
			case <-l.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) acknowledge(b byte) error {
	if l.noAck.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.conn.Write([]byte{b})
	return err
}

func (l *link) again() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.conn.Write(l.last)
	return err
}

// send sends a packet. A connection that fails shows as the end of events.
func (l *link) send(data string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = frame(data)
	if _, err := l.conn.Write(l.last); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = l.conn.Close()
	}
}
