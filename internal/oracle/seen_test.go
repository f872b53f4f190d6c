package oracle

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// seen is what was seen of a stream.
type seen struct {
	// By the caller.
	responses        []string
	attempt          string // the one that responses, header and trailer are of
	over             bool   // RecvMsg or NewStream has shown the end
	err              error
	sender, receiver metadataSeen
	context          context.Context //nolint:containedctx // the one that the stream returned

	// In the variables of the caller.
	header, trailer metadata.MD
	peer            peer.Peer

	// By OnFinish.
	finishes int
	finish   error

	// By others.
	opened   int      // attempts
	served   []served // by the server; not those that were not opened
	stuck    bool     // the stream went on until it was cancelled
	mistakes []string // that need no comparison
}

// What the variables of the caller hold before the stream.
var (
	keptHeader  = metadata.Pairs("x-kept", "header")
	keptTrailer = metadata.Pairs("x-kept", "trailer")
)

// noResponse reports whether err is that of a success without the one response
// that there should be: Header may have ended the stream before RecvMsg saw it.
func noResponse(err error) bool {
	return strings.Contains(status.Convert(err).Message(), "received no response message")
}

// metadataSeen is what Header and Trailer returned to one of the caller's goroutines.
type metadataSeen struct{ headers, trailers []string }

// served is what the server saw of an attempt, and did.
type served struct {
	attempt   int
	read      int  // messages
	drained   bool // to the end
	headed    bool
	responses int
}

// spoke reports whether the server sent anything before the end.
func (s *served) spoke() bool { return s.headed || s.responses > 0 }

// of returns what the server saw of an attempt.
func (s *seen) of(attempt int) served {
	for _, one := range s.served {
		if one.attempt == attempt {
			return one
		}
	}
	return served{attempt: attempt}
}

func (p *performance) wrong(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saw.mistakes = append(p.saw.mistakes, fmt.Sprintf(format, args...))
}

// response is the content of a response: the attempt that it is of, its number
// there, and how many messages the server had received.
func response(attempt, number, read, size int) []byte {
	return append([]byte{byte(attempt), byte(number), byte(read)}, content(number, size)...)
}

// responded takes note of a response.
func (p *performance) responded(c []byte) {
	if len(c) < 3 {
		p.wrong("a response of %d bytes", len(c))
		return
	}
	p.from(fmt.Sprint(c[0]))
	p.saw.responses = append(p.saw.responses, fmt.Sprintf("#%d, %d received: %s", c[1], c[2], short(c[3:])))
	if int(c[1]) != len(p.saw.responses) && p.serverStreams() {
		p.wrong("response %d arrives as number %d", c[1], len(p.saw.responses))
	}
}

// from takes note that something of an attempt has reached the caller.
func (p *performance) from(attempt string) {
	p.mu.Lock()
	before := p.saw.attempt
	p.saw.attempt = attempt
	p.mu.Unlock()
	if before != "" && before != attempt {
		p.wrong("the caller sees something of attempt %s, after something of attempt %s", attempt, before)
	}
}

// metadata returns md in words, without its attempt.
func (p *performance) metadata(md metadata.MD) string {
	if attempt := md.Get("x-attempt"); len(attempt) == 1 {
		p.from(attempt[0])
	}
	return inWords(md)
}

func inWords(md metadata.MD) string {
	if md == nil {
		return "none"
	}
	return fmt.Sprintf("read %q, pushback %q, kept %q", md.Get("x-read"), md.Get("grpc-retry-pushback-ms"), md.Get("x-kept"))
}

func short(c []byte) string {
	if len(c) == 0 {
		return "empty"
	}
	return fmt.Sprintf("%d bytes from %d to %d", len(c), c[0], c[len(c)-1])
}

// withDetail returns the error of a code, with a detail.
func withDetail(c codes.Code) error {
	if c == codes.OK {
		return nil
	}
	st, err := status.New(c, "as planned").WithDetails(&errdetails.ErrorInfo{Reason: "PLANNED"})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func statusInWords(err error) string {
	st := status.Convert(err)
	return fmt.Sprintf("%v %q %v", st.Code(), st.Message(), st.Details())
}

// inWords returns what is to be equal if an attempt is the one that counts.
func (s *seen) inWords(attempt int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "responses %q\n", s.responses)
	fmt.Fprintf(&b, "headers %q, %q\n", s.sender.headers, s.receiver.headers)
	if !s.over {
		return b.String() + "the caller did not see the end\n"
	}
	fmt.Fprintf(&b, "end %s\ntrailers %q\n", statusInWords(s.err), s.receiver.trailers)
	server := s.of(attempt)
	fmt.Fprintf(&b, "server: %d received, to the end %v, %d responses\n", server.read, server.drained, server.responses)
	if !endedByContext(s) && !endedByWrapper(s) {
		fmt.Fprintf(&b, "variables: header %s, trailer %s, peer %v\n", inWords(s.header), inWords(s.trailer), s.peer.Addr != nil)
	}
	return b.String()
}
