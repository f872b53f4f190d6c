package discovery

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A zone is a DNS server with the records of the test, over UDP and TCP.
type zone struct {
	address string

	mu      sync.Mutex
	hosts   map[string][]netip.Addr // A records, by name
	texts   map[string]string       // TXT records
	broken  bool                    // answers SERVFAIL
	tcp     int                     // questions over TCP
	open    map[net.Conn]struct{}
	serving sync.WaitGroup
}

// newZone starts a DNS server, which stops when the test ends.
func newZone(t *testing.T) *zone {
	t.Helper()
	z := &zone{hosts: map[string][]netip.Addr{}, texts: map[string]string{}, open: map[net.Conn]struct{}{}}
	var lc net.ListenConfig
	for range 100 { // another program may have the port of the one for the other
		stream, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		z.address = stream.Addr().String()
		datagrams, err := lc.ListenPacket(t.Context(), "udp", z.address)
		if err != nil {
			_ = stream.Close()
			continue
		}
		z.serving.Go(func() { z.serveUDP(datagrams) })
		z.serving.Go(func() { z.serveTCP(stream) })
		t.Cleanup(func() {
			_ = datagrams.Close()
			_ = stream.Close()
			z.hangUp()
			z.serving.Wait()
		})
		return z
	}
	t.Fatal("found no port that is free for UDP and TCP")
	return nil
}

// set makes the name of the service have these addresses; without any it is a name
// with no address. The answers of the server are as they are set, or SERVFAIL if
// broken.
func (z *zone) set(hosts ...*server) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken = false
	z.hosts[serviceName] = []netip.Addr{}
	for _, s := range hosts {
		z.hosts[serviceName] = append(z.hosts[serviceName], s.host)
	}
}

// vanish makes the name unknown.
func (z *zone) vanish() {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.hosts, serviceName)
}

// fail makes the server answer SERVFAIL, until set.
func (z *zone) fail() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken = true
}

// configure sets the TXT record that has the service configs of the service. "" means
// that there is none.
func (z *zone) configure(text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	const name = "_grpc_config." + serviceName
	if text == "" {
		delete(z.texts, name)
		return
	}
	z.texts[name] = "grpc_config=" + text
}

// overTCP returns how many questions came over TCP.
func (z *zone) overTCP() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.tcp
}

func (z *zone) serveUDP(conn net.PacketConn) {
	// What Go's resolver takes by UDP.
	const most = 1232
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		answer := z.answer(buffer[:n], false)
		if len(answer) > most {
			answer = z.answer(buffer[:n], true)
		}
		_, _ = conn.WriteTo(answer, from)
	}
}

func (z *zone) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		z.mu.Lock()
		z.open[conn] = struct{}{}
		z.mu.Unlock()
		z.serving.Go(func() { z.converse(conn) })
	}
}

// converse answers the questions of a connection. Each message comes after its
// length.
func (z *zone) converse(conn net.Conn) {
	defer func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		delete(z.open, conn)
		_ = conn.Close()
	}()
	for {
		var length uint16
		if binary.Read(conn, binary.BigEndian, &length) != nil {
			return
		}
		question := make([]byte, length)
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		z.mu.Lock()
		z.tcp++
		z.mu.Unlock()
		answer := z.answer(question, false)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// hangUp closes the connections that are open.
func (z *zone) hangUp() {
	z.mu.Lock()
	defer z.mu.Unlock()
	for conn := range z.open {
		_ = conn.Close()
	}
}

// answer returns the answer to a message; nil if it is none.
func (z *zone) answer(message []byte, truncated bool) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil {
		return nil
	}
	question, err := p.Question()
	if err != nil {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	header.Response, header.Authoritative, header.Truncated = true, true, truncated
	header.RCode = z.code(question)
	b := dnsmessage.NewBuilder(nil, header)
	b.EnableCompression()
	_ = b.StartQuestions()
	_ = b.Question(question)
	_ = b.StartAnswers()
	if !truncated && header.RCode == dnsmessage.RCodeSuccess {
		z.records(&b, question)
	}
	answer, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return answer
}

// code returns how a question is answered. It requires mu.
func (z *zone) code(q dnsmessage.Question) dnsmessage.RCode {
	_, host := z.hosts[q.Name.String()]
	_, text := z.texts[q.Name.String()]
	switch {
	case z.broken:
		return dnsmessage.RCodeServerFailure
	case !host && !text:
		return dnsmessage.RCodeNameError
	default:
		return dnsmessage.RCodeSuccess
	}
}

// records adds what the zone has. It requires mu.
func (z *zone) records(b *dnsmessage.Builder, q dnsmessage.Question) {
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
	name := q.Name.String()
	if q.Type == dnsmessage.TypeA {
		for _, ip := range z.hosts[name] {
			_ = b.AResource(header, dnsmessage.AResource{A: ip.As4()})
		}
	}
	if text, ok := z.texts[name]; ok && q.Type == dnsmessage.TypeTXT {
		_ = b.TXTResource(header, dnsmessage.TXTResource{TXT: chunks(text)})
	}
}

// chunks returns text in the pieces of at most 255 bytes that a TXT record has.
func chunks(text string) (all []string) {
	const most = 255
	for len(text) > most {
		all, text = append(all, text[:most]), text[most:]
	}
	return append(all, text)
}
