package interceptors_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/test/bufconn"
)

// This file speaks HTTP/2 frame by frame, to say what no gRPC library says
// (RFC 9113; header fields as literals, RFC 7541 section 6.2.2).

// The frames and flags that are used here.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4

	maxFrame = 16384 // bytes in a frame
)

// preface is what a client says first.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// A frame is one that was read.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// A rawConn is a connection on which frames are written as they are asked for.
// Writes after the other side has gone are dropped.
type rawConn struct {
	net.Conn

	mu sync.Mutex
}

func (c *rawConn) write(kind, flags byte, stream uint32, payload []byte) {
	c.send(appendFrame(nil, kind, flags, stream, payload))
}

// send writes frames, with none of another goroutine between them.
func (c *rawConn) send(frames []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Write(frames)
}

func appendFrame(to []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(payload))<<8|uint32(kind))
	to = binary.BigEndian.AppendUint32(append(to, flags), stream)
	return append(to, payload...)
}

func (c *rawConn) read() (frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{head[3], head[4], binary.BigEndian.Uint32(head[5:]), make([]byte, binary.BigEndian.Uint32(head[:])>>8)}
	_, err := io.ReadFull(c, f.payload)
	return f, err
}

// answer does what every side of a connection does with frames that are about
// the connection, and reports whether f is one.
func (c *rawConn) answer(f frame) bool {
	switch {
	case f.kind == frameSettings && f.flags&flagAck == 0:
		c.write(frameSettings, flagAck, 0, nil)
	case f.kind == framePing && f.flags&flagAck == 0:
		c.write(framePing, flagAck, 0, f.payload)
	}
	return f.stream == 0
}

// fields encodes header fields, given as names and values in turn.
func fields(of ...string) (block []byte) {
	for i, text := range of {
		if i%2 == 0 {
			block = append(block, 0) // a literal that is not remembered, with its name
		}
		block = append(appendLength(block, len(text)), text...)
	}
	return block
}

// appendLength appends n as an integer with a prefix of seven bits.
func appendLength(to []byte, n int) []byte {
	if n < 127 {
		return append(to, byte(n))
	}
	to = append(to, 127)
	for n -= 127; n >= 128; n >>= 7 {
		to = append(to, byte(n)|128)
	}
	return append(to, byte(n))
}

// message is a message of these bytes as gRPC frames it.
func message(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload))), payload...)
}

// A rawStream is one stream of a connection.
type rawStream struct {
	conn *rawConn
	id   uint32
}

// headers writes header fields, in as many frames as they take.
func (s rawStream) headers(end bool, of ...string) {
	kind, flags := byte(frameHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	block, frames := fields(of...), []byte(nil)
	for len(block) > maxFrame {
		frames = appendFrame(frames, kind, flags, s.id, block[:maxFrame])
		kind, flags, block = frameContinuation, 0, block[maxFrame:]
	}
	s.conn.send(appendFrame(frames, kind, flags|flagEndHeaders, s.id, block))
}

func (s rawStream) data(end bool, payload []byte) {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	s.conn.write(frameData, flags, s.id, payload)
}

func (s rawStream) reset(code uint32) {
	s.conn.write(frameReset, 0, s.id, binary.BigEndian.AppendUint32(nil, code))
}

// begin and trailers are what a well-behaved server begins and ends with.
func (s rawStream) begin() { s.headers(false, ":status", "200", "content-type", "application/grpc") }

func (s rawStream) trailers(of ...string) { s.headers(true, of...) }

// only is a response that is a status and nothing else.
func (s rawStream) only(of ...string) {
	s.headers(true, append([]string{":status", "200", "content-type", "application/grpc"}, of...)...)
}

// A rawServer plays a script for each stream that a client opens.
type rawServer struct {
	*bufconn.Listener

	conns sync.WaitGroup

	mu     sync.Mutex
	script func(s rawStream)
	opened int // streams
}

// newRawServer starts a server that ends with the test.
func newRawServer(t testing.TB) *rawServer {
	s := &rawServer{Listener: bufconn.Listen(1 << 16)}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() { s.serve(&rawConn{Conn: conn}) })
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		accepting.Wait()
		s.conns.Wait()
	})
	return s
}

// plays sets the script of the streams that follow.
func (s *rawServer) plays(script func(s rawStream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script, s.opened = script, 0
}

// next returns the script of a stream that was opened.
func (s *rawServer) next() func(s rawStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return s.script
}

func (s *rawServer) streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// serve reads what a client sends. The script of a stream is played when the
// client has said what it has to say, or, if that takes several frames, has
// begun to.
func (s *rawServer) serve(c *rawConn) {
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, len(preface))); err != nil {
		return
	}
	c.write(frameSettings, 0, 0, nil)
	for {
		f, err := c.read()
		if err != nil {
			return
		}
		if c.answer(f) || f.kind != frameHeaders {
			continue
		}
		s.next()(rawStream{c, f.stream})
	}
}
