//go:build unix

package faults

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy forwards HTTP/2 connections to a server, frame by frame, until a
// test makes it misbehave. A new one listens and accepts nothing: a client that
// connects waits for an answer, as on a network that drops all packets.
type proxy struct {
	testing.TB

	listener net.Listener
	server   string // its address
	running  sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	stalled chan struct{} // closed when packets pass again; nil: they pass
	cutNext [2]bool       // by direction: whether to cut in the next message
	cuts    int           // connections that were cut
}

// A direction is one of the two ways through a proxy.
type direction int

const (
	toServer direction = iota
	toClient
)

// preface is the length of what an HTTP/2 client sends before its first frame.
const preface = 24

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &proxy{TB: t, listener: listener, server: server, links: map[*link]struct{}{}}
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// accept begins to accept connections, those too that wait already.
func (p *proxy) accept() {
	p.running.Go(func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return // closed
			}
			p.running.Go(func() { p.serve(conn) })
		}
	})
}

// close closes the proxy and its connections, and waits for its goroutines.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.pass()
	p.mu.Lock()
	for l := range p.links {
		l.closeLocked()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// stall keeps everything that is under way, and everything that comes, until
// pass. Connections are accepted, and then nothing happens on them.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = make(chan struct{})
}

// pass ends a stall.
func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// lose makes the connections that there are lose all that they carry, for ever,
// without closing them: as a firewall does that has forgotten them.
func (p *proxy) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.lost = true
	}
}

// cutInMessage makes the next connection that carries a large message in this
// direction break in the middle of it.
func (p *proxy) cutInMessage(d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutNext[d] = true
}

// done returns how many connections were cut in a message.
func (p *proxy) done() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// A link is a connection of a client, and the one to the server that goes with it.
type link struct {
	client, server net.Conn
	closed         bool
	lost           bool
}

// closeLocked closes both connections at once, and loses what is under way.
func (l *link) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as from a peer that is gone
		}
		_ = conn.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	for d, ends := range [2][2]net.Conn{toServer: {client, server}, toClient: {server, client}} {
		both.Go(func() {
			p.forward(l, direction(d), bufio.NewReader(ends[0]), ends[1])
			p.mu.Lock()
			defer p.mu.Unlock()
			l.closeLocked()
		})
	}
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// forward copies frames until one of the ends is closed.
func (p *proxy) forward(l *link, d direction, from *bufio.Reader, to io.Writer) {
	if d == toServer {
		if _, err := io.CopyN(to, from, preface); err != nil {
			return
		}
	}
	var frame []byte
	for {
		var err error
		if frame, err = readFrame(from, frame); err != nil {
			return
		}
		send, more := p.look(l, d, frame)
		if _, err := to.Write(send); err != nil || !more {
			return
		}
	}
}

// readFrame reads an HTTP/2 frame (RFC 9113, section 4.1), into b if it fits.
func readFrame(r io.Reader, b []byte) ([]byte, error) {
	const header = 9
	if cap(b) < header {
		b = make([]byte, header, 32<<10)
	}
	b = b[:header]
	if _, err := io.ReadFull(r, b); err != nil {
		return b, err
	}
	length := int(binary.BigEndian.Uint32(b) >> 8)
	if length > cap(b)-header {
		return b, errors.New("a frame larger than HTTP/2 allows by default")
	}
	b = b[:header+length]
	_, err := io.ReadFull(r, b[header:])
	return b, err
}

// look decides what is sent of a frame, and whether anything is sent after it.
func (p *proxy) look(l *link, d direction, frame []byte) (send []byte, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled != nil {
		stalled := p.stalled
		p.mu.Unlock()
		<-stalled
		p.mu.Lock()
	}
	const data, largeEnough = 0, 4096
	switch {
	case l.lost:
		return nil, true
	case p.cutNext[d] && frame[3] == data && len(frame) >= largeEnough:
		p.cutNext[d] = false
		p.cuts++
		return frame[:len(frame)/2], false
	}
	return frame, true
}
