package interceptors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/turret-go/turret/reconnect"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/pushback"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

// The odd errors of other people.
type (
	nilStatusError struct{ error }
	okStatusError  struct{ error }
	manyErrors     []error // cannot be compared
)

func (nilStatusError) GRPCStatus() *status.Status { return nil }
func (okStatusError) GRPCStatus() *status.Status  { return status.New(codes.OK, "fine") }
func (manyErrors) Error() string                  { return "many" }
func (e manyErrors) Unwrap() []error              { return e }

// errorTree builds an error as the bytes of program say: a machine with a stack
// of errors, whose operations make leaves and wrap or join what is there.
func errorTree(program []byte) error {
	leaves := []func(b byte) error{
		func(b byte) error { return errors.New("plain" + strings.Repeat("!", int(b%3))) },
		func(b byte) error { return status.Error(codes.Code(b%20), "a status") },
		func(b byte) error {
			return &turret.Refusal{Kind: turret.Kind(b % 5), Layer: "x", Reason: "R", RetryAfter: time.Duration(b%3) * time.Millisecond}
		},
		func(byte) error { return &timeout.Error{After: time.Second, Err: context.DeadlineExceeded} },
		func(byte) error { return context.Canceled },
		func(byte) error { return context.DeadlineExceeded },
		func(byte) error { return turret.ErrNotReady },
		func(byte) error { return timeout.ErrTimeout },
		func(byte) error { return nilStatusError{errors.New("with a nil status")} },
		func(byte) error { return okStatusError{errors.New("with the status OK")} },
	}
	wraps := []func(err error) error{
		func(err error) error { return fmt.Errorf("around: %w", err) },
		turret.NotReady,
		turret.Sent,
		edge,
		handled,
		func(err error) error { return withPushback(err, metadata.MD{pushback.Key: {"5"}}) },
		func(err error) error { return &timeout.Error{After: time.Second, Err: err} },
		func(err error) error { return &turret.Refusal{Layer: "y", Err: err} },
		func(err error) error { return &retry.InterruptedError{Err: context.Canceled, Last: err} },
		func(err error) error {
			return interrupted(&retry.InterruptedError{Err: context.DeadlineExceeded, Last: err})
		},
		func(err error) error { return (&namedService{name: "n"}).rename(err) },
		func(err error) error { return nilStatusError{err} },
		func(err error) error { return okStatusError{err} },
		func(err error) error { return manyErrors{err} },
	}
	tree := errors.New("start")
	for i := 0; i+1 < len(program) && i < 64; i += 2 {
		op, arg := int(program[i]), program[i+1]
		switch {
		case op < 64:
			if leaf := leaves[op%len(leaves)](arg); leaf != nil { // a status of OK is no error
				tree = leaf
			}
		case op < 96:
			tree = errors.Join(tree, leaves[int(arg)%len(leaves)](arg))
		case op < 128:
			tree = errors.Join(leaves[int(arg)%len(leaves)](arg), tree)
		default:
			tree = wraps[op%len(wraps)](tree)
		}
	}
	return tree
}

// What Status and Code say inside a stack is what gRPC sees outside of it,
// whatever the error is made of.
func FuzzStatus(f *testing.F) {
	for op := range byte(64) {
		f.Add([]byte{op, op})
		f.Add([]byte{1, 5, 128 + op, 0})
		f.Add([]byte{2, op, 128 + op, 0, 64, op})
		f.Add([]byte{2, 1, 129, 0, 130, 0, 100, op, 128 + op, 0})
		f.Add(bytes.Repeat([]byte{128 + op, 0}, 32))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		err := errorTree(program)
		sent := edge(err)
		seen, isStatus := status.FromError(sent)
		if !isStatus || seen.Code() == codes.OK || status.Code(sent) != seen.Code() {
			t.Fatalf("%#v leaves as %v", err, sent)
		}
		if Code(err) != seen.Code() {
			t.Errorf("Code(%#v) is %v, gRPC sees %v", err, Code(err), seen.Code())
		}
		if !proto.Equal(Status(err).Proto(), seen.Proto()) {
			t.Errorf("Status(%#v) is %v, gRPC sees %v", err, Status(err), seen)
		}
		if again := edge(sent); again != sent { //nolint:errorlint // identity
			t.Errorf("an error that left a stack is changed by the next: %v became %v", sent, again)
		}
		if errors.Is(err, turret.ErrNotReady) != errors.Is(sent, turret.ErrNotReady) {
			t.Errorf("the edge changes whether %#v was sent", err)
		}
		checkHandled(t, err)
		_ = Classify(t.Context(), nil, nil, err)
	})
}

func checkHandled(t *testing.T, err error) {
	t.Helper()
	h := handled(err)
	if isTurrets(h) {
		t.Errorf("handled(%#v) has a cause of Turret's own", err)
	}
	if h.Error() != err.Error() || Code(h) != Code(err) || !proto.Equal(Status(h).Proto(), Status(err).Proto()) {
		t.Errorf("handled(%#v) is %v with status %v, want the same text and %v", err, h, Status(h), Status(err))
	}
}

// countedError counts how often it was asked for its status.
type countedError struct {
	error

	asked *int
}

func (e countedError) GRPCStatus() *status.Status {
	*e.asked++
	return status.New(codes.Unavailable, "down")
}

// Each Retry that an error passes may hang a pushback on it: what one more costs
// does not double what all of them cost.
func TestStatusBehindManyPushbacks(t *testing.T) {
	asked := 0
	var err error = countedError{errors.New("down"), &asked}
	for range 20 {
		err = withPushback(err, metadata.MD{pushback.Key: {"5"}})
	}
	if got := Status(err); got.Code() != codes.Unavailable || asked > 100 {
		t.Errorf("%v, and the error was asked %d times for its status", got, asked)
	}
}

func TestStatusOfNil(t *testing.T) {
	if edge(nil) != nil || Code(nil) != codes.OK || Status(nil).Code() != codes.OK || handled(nil) != nil {
		t.Error("nil is not OK")
	}
}

// A wrapper that adds no text leaves the text of a status as it was.
func TestStatusTextOfWrapper(t *testing.T) {
	err := &statusError{status.New(codes.Aborted, "text"), turret.ErrNotReady}
	if got := Status(turret.Sent(err)).Message(); got != "text" {
		t.Errorf("the text is %q, want %q", got, "text")
	}
	if got := Status(fmt.Errorf("more: %w", err)).Message(); got != "more: rpc error: code = Aborted desc = text" {
		t.Errorf("the text is %q", got)
	}
}

// What a service that cannot be made is refused with is no verdict on the RPC,
// and neither is any other status in the cause of a refusal.
func TestStatusInTheCauseOfARefusal(t *testing.T) {
	cause := status.Error(codes.NotFound, "no such backend")
	refusal := &turret.Refusal{Kind: turret.KindUnavailable, Layer: "l", Reason: "R", Err: fmt.Errorf("lost: %w", cause)}
	dial := turret.ServiceFunc(func(context.Context, string) (turret.Service[*RPC, any], error) { return nil, cause })
	lost := reconnect.New(dial, "", reconnect.Config{Backoff: retry.Backoff{Base: time.Hour, Jitter: -1}})
	defer lost.Close()
	_, _ = lost.Call(t.Context(), &RPC{})
	_, reconnecting := lost.Call(t.Context(), &RPC{})

	other := status.Error(codes.Aborted, "another call")
	for name, tt := range map[string]struct {
		err  error
		want codes.Code
	}{
		"refusal":                       {refusal, codes.Unavailable},
		"wrapped refusal":               {fmt.Errorf("outside: %w", refusal), codes.Unavailable},
		"refusal after an attempt":      {turret.Sent(refusal), codes.Unavailable},
		"reconnect":                     {reconnecting, codes.Unavailable},
		"status around a refusal":       {&statusError{status.New(codes.PermissionDenied, ""), refusal}, codes.PermissionDenied},
		"status beside a refusal":       {errors.Join(other, refusal), codes.Aborted},
		"refusal beside another status": {errors.Join(refusal, other), codes.Unavailable},
	} {
		if got := Status(tt.err); got.Code() != tt.want || Code(tt.err) != tt.want {
			t.Errorf("%s: %v and %v, want %v", name, got.Code(), Code(tt.err), tt.want)
		}
	}
}

// Refusals may say what they like: what cannot be sent is made so that it can,
// and what is alike is made once.
func TestAbsurdRefusals(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for _, r := range []*turret.Refusal{
		{Layer: "\xff\xfe", Reason: "\xff"},
		{Layer: huge, Reason: huge, Err: errors.New(huge)},
		{Layer: strings.Repeat("é", 1<<10), Reason: strings.Repeat("é", 1<<10), RetryAfter: 1<<63 - 1},
		{Reason: "R", RetryAfter: -1},
		{},
	} {
		st := Status(r)
		if len(st.Message()) > maxText+utf8.UTFMax || !utf8.ValidString(st.Message()) {
			t.Errorf("text of %d bytes, valid %v", len(st.Message()), utf8.ValidString(st.Message()))
		}
		data, err := proto.Marshal(st.Proto())
		if err != nil || len(data) > 4*maxText {
			t.Errorf("the status has %d bytes, error %v", len(data), err)
		}
		if _, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok {
			t.Errorf("no ErrorInfo in %v", st)
		}
		if got := len(st.Details()); got != 1 && r.RetryAfter <= 0 || got != 2 && r.RetryAfter > 0 {
			t.Errorf("%d details for a delay of %v", got, r.RetryAfter)
		}
	}
}

func TestStatusCacheIsBounded(t *testing.T) {
	c := newStatusCache()
	for i := range 10 * maxStatuses {
		r := &turret.Refusal{Layer: "x", Reason: fmt.Sprint(i)}
		if got := c.get(r).Message(); got != r.Error() {
			t.Fatalf("the status of %v says %q", r, got)
		}
	}
	c.get(&turret.Refusal{Layer: strings.Repeat("x", 2*maxText)})
	if got := c.known.Len(); got != maxStatuses {
		t.Errorf("%d statuses are kept, want %d", got, maxStatuses)
	}
}

func TestStatusCacheKeepsTextsApart(t *testing.T) {
	c := newStatusCache()
	same := &turret.Refusal{Layer: "x", Reason: "R", Err: errors.New("one")}
	if first := c.get(same); c.get(same) != first {
		t.Error("the status of a refusal is made twice")
	}
	for _, text := range []string{"two", "three"} {
		r := &turret.Refusal{Layer: "x", Reason: "R", Err: errors.New(text)}
		if got := c.get(r).Message(); got != r.Error() {
			t.Errorf("the status of %v says %q", r, got)
		}
	}
	if got := c.known.Len(); got != 1 {
		t.Errorf("%d statuses are kept of one reason, want 1", got)
	}
	if other := (&turret.Refusal{Kind: turret.KindUnavailable, Layer: "x", Reason: "R", Err: same.Err}); c.get(other).Code() != codes.Unavailable {
		t.Error("kinds are mixed up")
	}
	for _, err := range []error{manyErrors{same.Err}, nil, manyErrors{}, manyErrors{}} {
		r := &turret.Refusal{Layer: "x", Reason: "R", Err: err}
		if got := c.get(r).Message(); got != r.Error() {
			t.Errorf("the status of %v says %q", r, got)
		}
	}
}

func TestParsePushback(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   time.Duration
	}{
		{[]string{"0"}, 0},
		{[]string{"1500"}, 1500 * time.Millisecond},
		{[]string{"-1"}, -1},
		{[]string{""}, -1},
		{[]string{"1.5"}, -1},
		{[]string{" 1"}, -1},
		{[]string{"1", "1"}, -1},
		{[]string{"9223372036854"}, 9223372036854 * time.Millisecond},
		{[]string{"9223372036855"}, -1}, // more than a Duration holds
		{[]string{"99999999999999999999"}, -1},
	} {
		if got, _ := pushback.InTrailer(metadata.MD{pushback.Key: tt.values}); got != tt.want {
			t.Errorf("pushback %q is %v, want %v", tt.values, got, tt.want)
		}
	}
}

// What one side writes the other side reads, rounded up to the millisecond.
func FuzzPushback(f *testing.F) {
	for _, d := range []int64{0, 1, 999_999, 1_000_000, 1_000_001, 1<<63 - 1, -1} {
		f.Add(d, "x")
	}
	f.Add(int64(1), "17")
	f.Fuzz(func(t *testing.T, ns int64, text string) {
		if got, _ := pushback.InTrailer(metadata.Pairs(pushback.Key, text)); got < -1 || got%time.Millisecond != 0 && got != -1 {
			t.Errorf("pushback %q is %v", text, got)
		}
		after := time.Duration(ns)
		md := pushbackTrailer(&turret.Refusal{RetryAfter: after})
		if after <= 0 {
			if md != nil {
				t.Errorf("a delay of %v is sent as %v", after, md)
			}
			return
		}
		got, _ := pushback.InTrailer(md)
		const longest = time.Duration(math.MaxInt64)
		if after > longest-longest%time.Millisecond {
			return // rounded up it is more than a Duration holds: never
		}
		if got < after || got >= after+time.Millisecond {
			t.Errorf("a delay of %v arrives as %v", after, got)
		}
	})
}

func TestClassify(t *testing.T) {
	success := []codes.Code{
		codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Aborted, codes.Unimplemented,
	}
	want := map[codes.Code]turret.Outcome{codes.ResourceExhausted: turret.Overload}
	for _, c := range success {
		want[c] = turret.Success
	}
	for c := codes.Canceled; c <= codes.Unauthenticated+1; c++ {
		w := want[c]
		if w == 0 {
			w = turret.Failure
		}
		if got := Classify(t.Context(), nil, nil, status.Error(c, "")); got != w {
			t.Errorf("%v is %v, want %v", c, got, w)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	unavailable := status.Error(codes.Unavailable, "")
	later, err := status.New(codes.Unavailable, "").WithDetails(&errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	soon := withRetryInfo(status.New(codes.Unavailable, ""), time.Second)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want turret.Outcome
	}{
		{"nil", t.Context(), nil, turret.Success},
		{"refusal", t.Context(), &turret.Refusal{}, turret.Unused},
		{"refusal after something sent", t.Context(), turret.Sent(&turret.Refusal{}), turret.Overload},
		{"gave up in line", cancelled, turret.NotReady(context.Canceled), turret.Unused},
		{"our caller cancelled", cancelled, status.Error(codes.Canceled, ""), turret.Ignored},
		{"our caller cancelled, plain", cancelled, context.Canceled, turret.Ignored},
		{"cancelled by another, in spite of our deadline", expired, status.Error(codes.Canceled, ""), turret.Failure},
		{"our caller cancelled, an answer came", cancelled, unavailable, turret.Failure},
		{"deadline", t.Context(), context.DeadlineExceeded, turret.Failure},
		{"pushback", t.Context(), withPushback(unavailable, metadata.MD{pushback.Key: {"1"}}), turret.Overload},
		{"pushback of a handler's downstream", t.Context(), handled(withPushback(unavailable, metadata.MD{pushback.Key: {"1"}})), turret.Failure},
		{"pushback never", t.Context(), withPushback(unavailable, metadata.MD{pushback.Key: {"-1"}}), turret.Failure},
		{"RetryInfo", t.Context(), soon.Err(), turret.Overload},
		{"RetryInfo without a delay", t.Context(), later.Err(), turret.Failure},
		{"status OK", t.Context(), okStatusError{errors.New("x")}, turret.Failure},
		{"plain", t.Context(), manyErrors{}, turret.Failure},
	} {
		if got := Classify(tt.ctx, nil, nil, tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
