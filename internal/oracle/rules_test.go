package oracle

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// These are the rules for a stream with a Retry:
//
//  1. An attempt is repeated only if it failed in a way that is worth it, with an
//     attempt left (final).
//  2. It is repeated if it did, unless there is a reason why it could not be
//     (reason): something of it may have reached the caller, too much was sent,
//     or no method of the caller was there to notice the end.
//  3. What is seen of the stream, by caller and server, is what is seen on a bare
//     connection if the server behaves from the start as in the last attempt.
//
// And what may differ:
//
//   - The caller's cancel, and a failing network, race with messages that are on
//     their way: the responses before it are a prefix.
//   - A last attempt that did not open, or that a Timeout inside the Retry or an
//     interceptor ended, has no counterpart on a bare connection: its status is
//     checked here.
//   - Whether SendMsg sees the end of a stream, and at which message.
//   - The variables of grpc.Header, grpc.Trailer and grpc.Peer, when gRPC may yet
//     be writing to them: a context ended the stream, or gRPC has not seen its end.
//
// What needs no comparison is checked where it is seen (wrong): messages
// complete, unchanged and in order on both sides, everything that reaches the
// caller of one attempt, OnFinish once and before the caller sees the end, the
// stack's place free by then.

// check returns what is wrong with the stream that was seen. bare plays the
// schedule on a bare connection, with a server as in that attempt.
func (s *schedule) check(saw *seen, bare func(attempt int) *seen) (mistakes []string) {
	mistakes = slices.Clone(saw.mistakes)
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Sprintf(format, args...)) }
	last := saw.opened - 1
	for attempt := range last {
		if why := s.final(attempt); why != "" {
			wrong("attempt %d was repeated: %s", attempt, why)
		}
	}
	if s.final(last) == "" && s.reason(saw, last) == "" {
		wrong("attempt %d was not repeated", last)
	}
	if saw.attempt != "" && saw.attempt != fmt.Sprint(last) {
		wrong("the caller sees something of attempt %s, the last is %d", saw.attempt, last)
	}
	if code := s.ownCode(saw, last); code != codes.OK {
		if saw.over && status.Code(saw.err) != code && !endedByContext(saw) {
			wrong("the end is %v, want %v", saw.err, code)
		}
		if s.ending(last).way == notOpen && (inWords(saw.header) != inWords(keptHeader) || saw.peer.Addr != nil) {
			wrong("of an attempt that did not open: header %v, peer %v", saw.header, saw.peer)
		}
		return mistakes
	}
	want := bare(last)
	if s.cancel != 0 {
		if !isPrefix(saw.responses, want.responses) {
			wrong("responses %q\n  bare %q", saw.responses, want.responses)
		}
		return mistakes
	}
	if got, want := saw.inWords(last), want.inWords(last); got != want {
		wrong("%s  bare:\n%s", got, want)
	}
	return append(mistakes, want.mistakes...)
}

// final returns why an attempt must not be repeated; nothing if it may be.
func (s *schedule) final(attempt int) string {
	e := s.ending(attempt)
	switch {
	case attempt+1 >= s.attempts:
		return "it was the last one"
	case e.way != byStatus:
		return ""
	case e.code == codes.OK:
		return "it succeeded"
	case len(e.pushback) > 1, slices.Contains(e.pushback, "-1"), slices.Contains(e.pushback, "soon"):
		return "the server said no"
	case e.code == codes.Unavailable, e.code == codes.ResourceExhausted && e.pushback != nil:
		return ""
	default:
		return "its status says so"
	}
}

// reason returns why an attempt may not have been repeated although it was worth
// it; nothing if it had to be.
func (s *schedule) reason(saw *seen, attempt int) string {
	server := saw.of(attempt)
	switch {
	case !saw.over:
		return "nobody received its end"
	case endedByContext(saw):
		return "the caller had left"
	case endedByWrapper(saw):
		return "a second response"
	case s.does(Context):
		return "the caller asked for the context"
	case s.bytes() > s.keep:
		return "too much was sent"
	case server.responses > 0 && s.serverStreams():
		return "a response"
	case server.spoke() && s.does(Header):
		return "the caller asked for the header"
	case server.spoke() && s.clientStreams() && server.read < len(s.sizes()):
		return "SendMsg noticed the end, after a header"
	default:
		return ""
	}
}

// ownCode is the status of an attempt that has no counterpart on a bare
// connection; OK of one that has.
func (s *schedule) ownCode(saw *seen, attempt int) codes.Code {
	server := saw.of(attempt)
	switch way := s.ending(attempt).way; {
	case endedByWrapper(saw) && server.responses > 1:
		return codes.Internal
	case way == hanging:
		return codes.DeadlineExceeded
	case way == madeUp, way == notOpen, way == cut && !server.spoke():
		return codes.Unavailable
	default:
		return codes.OK
	}
}

// endedByWrapper reports whether gRPC's wrapper of a stream with one response
// made its end up, because there was a second one. gRPC's stream goes on.
func endedByWrapper(saw *seen) bool {
	return saw.over && strings.HasSuffix(status.Convert(saw.err).Message(), "but received another message")
}

// endedByContext reports whether the caller saw its context end.
func endedByContext(saw *seen) bool {
	return saw.over && status.Code(saw.err) == codes.Canceled
}

// bytes is how much the caller sends, encoded.
func (s *schedule) bytes() (sum int) {
	for i, size := range s.sizes() {
		sum += proto.Size(&message{Value: content(i, size)})
	}
	return sum
}

func isPrefix(a, b []string) bool { return len(a) <= len(b) && slices.Equal(a, b[:len(a)]) }
