package echo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

type doer = func(ctx context.Context, p *echov1.Plan, payloads ...string) result

func TestPlainEcho(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string, do doer) {
		payloads, want := []string{"a"}, []string{"a"}
		received := int64(1)
		switch kind {
		case "ClientStream":
			payloads, want, received = []string{"a", "b", "c"}, []string{"c"}, 3
		case "BidiStream":
			payloads, want, received = []string{"a", "b", "c"}, []string{"a", "b", "c"}, 3
		}
		r := do(t.Context(), nil, payloads...)
		wantReport := &echov1.Report{Server: "one", Received: received, Sent: int64(len(want))}
		if got := r.last(t); !proto.Equal(got, wantReport) {
			t.Errorf("report %v, want %v", got, wantReport)
		}
		for i, res := range r.responses {
			if got := string(res.GetPayload()); got != want[i] {
				t.Errorf("response %d is %q, want %q", i, got, want[i])
			}
		}
		if r.took != 0 {
			t.Errorf("took %v without a delay", r.took)
		}
	})
}

func TestClientStreamOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := dial(t).ClientStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.CloseAndRecv()
		if err != nil || res.GetReport().GetReceived() != 0 || len(res.GetPayload()) != 0 {
			t.Fatalf("%v, %v", res, err)
		}
	})
}

func TestDelayIsInFrontOfEachResponse(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string, do doer) {
		plan := &echov1.Plan{Delay: durationpb.New(time.Minute), Responses: new(int32(3))}
		r := do(t.Context(), plan, "a")
		want := []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}
		if kind == "Unary" || kind == "ClientStream" {
			if r.last(t); r.took != time.Minute {
				t.Errorf("took %v, want 1m", r.took)
			}
			return
		}
		if r.last(t); !slices.Equal(r.at, want) {
			t.Errorf("responses after %v, want %v", r.at, want)
		}
	})
}

func TestDelayIsInFrontOfAFailure(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, do doer) {
		r := do(t.Context(), &echov1.Plan{
			Delay:   durationpb.New(time.Minute),
			Failure: &echov1.Failure{Code: int32(codes.Unavailable)},
		}, "a")
		if wantCode(t, r, codes.Unavailable); r.took != time.Minute {
			t.Errorf("took %v, want 1m", r.took)
		}
	})
}

func TestHandlerEndsWithItsContext(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ran := make(chan time.Duration, 2)
				client := dial(t, around(func(handler func() error) error {
					start := time.Now()
					defer func() { ran <- time.Since(start) }()
					return handler()
				})...)
				plan := &echov1.Plan{Delay: durationpb.New(time.Hour)}

				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				wantCode(t, k.do(ctx, client, plan, "a"), codes.DeadlineExceeded)
				if got := <-ran; got > time.Minute {
					t.Errorf("ran for %v after a deadline of 1m", got)
				}

				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(time.Minute, cancel)
				wantCode(t, k.do(ctx, client, plan, "a"), codes.Canceled)
				if got := <-ran; got != time.Minute {
					t.Errorf("ran for %v, cancelled after 1m", got)
				}
			})
		})
	}
}

func TestHandlerReturnsThePlainContextError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := New("one").Unary(ctx, &echov1.UnaryRequest{Plan: &echov1.Plan{Delay: durationpb.New(time.Hour)}})
		if err != context.DeadlineExceeded { //nolint:errorlint // itself, not something that wraps it
			t.Errorf("got %v", err)
		}
	})
}

func TestFailureArrivesWhole(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, do doer) {
		info := &errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}
		detail, err := anypb.New(info)
		if err != nil {
			t.Fatal(err)
		}
		r := do(t.Context(), &echov1.Plan{Failure: &echov1.Failure{
			Code: int32(codes.ResourceExhausted), Message: "full", Details: []*anypb.Any{detail},
		}}, "a")
		wantCode(t, r, codes.ResourceExhausted)
		s := status.Convert(r.err)
		if s.Message() != "full" || len(s.Details()) != 1 || !proto.Equal(s.Details()[0].(proto.Message), info) {
			t.Errorf("got %q with %v", s.Message(), s.Details())
		}
	})
}

func TestFailureAfterSomeMessages(t *testing.T) {
	tests := []struct {
		after          int64
		server, bidi   int // responses before the status
		clientReceives int64
	}{
		{after: 0, server: 0, bidi: 0, clientReceives: 1},
		{after: 1, server: 1, bidi: 1, clientReceives: 1},
		{after: 3, server: 3, bidi: 3, clientReceives: 3},
		{after: 5, server: 4, bidi: 5, clientReceives: 5},   // the server stream is over sooner
		{after: 99, server: 4, bidi: 20, clientReceives: 5}, // all are
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.after), func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string, do doer) {
				want := map[string]int{"ServerStream": tt.server, "BidiStream": tt.bidi}[kind]
				r := do(t.Context(), &echov1.Plan{
					Responses: new(int32(4)),
					Failure:   &echov1.Failure{Code: int32(codes.Aborted), After: tt.after},
				}, "a", "b", "c", "d", "e")
				wantCode(t, r, codes.Aborted)
				if got := len(r.responses); got != want {
					t.Errorf("%d responses before the failure, want %d", got, want)
				}
			})
			t.Run("ClientStream reads", func(t *testing.T) {
				if got := requestsRead(t, tt.after, 5); got != tt.clientReceives {
					t.Errorf("%d requests were read before the failure, want %d", got, tt.clientReceives)
				}
			})
		})
	}
}

// requestsRead is how many of n requests of a client stream the server reads
// before it fails. The client waits after each, so that none is in flight.
func requestsRead(t *testing.T, after int64, n int) (read int64) {
	t.Helper()
	count := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, &countingStream{ServerStream: ss, read: &read})
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := dial(t, grpc.StreamInterceptor(count)).ClientStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req := &echov1.ClientStreamRequest{Plan: &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Aborted), After: after}}}
		for range n {
			if s.Send(req) != nil {
				break
			}
			req = &echov1.ClientStreamRequest{}
			synctest.Wait()
		}
		if _, err := s.CloseAndRecv(); status.Code(err) != codes.Aborted {
			t.Error(err)
		}
	})
	return read
}

type countingStream struct {
	grpc.ServerStream
	read *int64
}

func (s *countingStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		*s.read++
	}
	return err
}

// TestBidiFailsWithoutANextRequest shows that the failure comes with the last
// response before it, not when the client sends again.
func TestBidiFailsWithoutANextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := dial(t).BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plan := &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Aborted), After: 1}}
		if err := s.Send(&echov1.BidiStreamRequest{Plan: plan}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.Aborted {
			t.Fatal(err)
		}
	})
}

func TestALaterPlanReplacesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := dial(t).BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			plan      *echov1.Plan
			responses int
		}{
			{nil, 1},
			{&echov1.Plan{Responses: new(int32(2))}, 2},
			{nil, 2}, // as before
			{&echov1.Plan{}, 1},
		} {
			if err := s.Send(&echov1.BidiStreamRequest{Plan: tt.plan}); err != nil {
				t.Fatal(err)
			}
			for range tt.responses {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if res, err := s.Recv(); err == nil {
			t.Errorf("one response too many: %v", res)
		}
	})
}

func TestNoResponses(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string, do doer) {
		want := map[string]int{"Unary": 1, "ClientStream": 1}[kind]
		r := do(t.Context(), &echov1.Plan{Responses: new(int32(0))}, "a")
		if wantCode(t, r, codes.OK); len(r.responses) != want {
			t.Errorf("%d responses, want %d", len(r.responses), want)
		}
	})
}

func TestPayloadSize(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, do doer) {
		r := do(t.Context(), &echov1.Plan{PayloadSize: 100_000}, "a")
		r.last(t)
		if got := r.responses[0].GetPayload(); len(got) != 100_000 || strings.Trim(string(got), "\x00") != "" {
			t.Errorf("%d bytes, want 100000 zeros", len(got))
		}
	})
}

func TestAttempts(t *testing.T) {
	tests := []struct {
		header []string
		seen   int32
		code   codes.Code // of a plan that fails two attempts
	}{
		{nil, 0, codes.Unavailable},
		{[]string{"1"}, 1, codes.Unavailable},
		{[]string{"2"}, 2, codes.OK},
		{[]string{"-1"}, -1, codes.Unavailable},
		{[]string{"two"}, -1, codes.Unavailable},
		{[]string{"2", "2"}, -1, codes.Unavailable},
		{[]string{"4294967298"}, -1, codes.Unavailable}, // 2 in 32 bits
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.header), func(t *testing.T) {
			eachKind(t, func(t *testing.T, _ string, do doer) {
				ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"grpc-previous-rpc-attempts": tt.header})
				r := do(ctx, nil, "a")
				if got := r.last(t).GetPreviousAttempts(); got != tt.seen {
					t.Errorf("previous attempts %d, want %d", got, tt.seen)
				}
				wantCode(t, do(ctx, &echov1.Plan{
					Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 2},
				}, "a"), tt.code)
			})
		})
	}
}

func TestTimeLeft(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, do doer) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := do(ctx, nil, "a")
		// The wire carries a deadline as what is left of it, in no finer unit
		// than it has digits for.
		if got := r.last(t).GetTimeLeft(); got == nil || got.AsDuration() > time.Minute || got.AsDuration() < 59*time.Second {
			t.Errorf("time left %v, want a minute", got)
		}
	})
}

func TestMetadata(t *testing.T) {
	plan := &echov1.Plan{
		Headers:  []*echov1.MetadataEntry{{Key: "x-head", Values: []string{"1", "2"}}},
		Trailers: []*echov1.MetadataEntry{{Key: "grpc-retry-pushback-ms", Values: []string{"10", "20"}}},
	}
	check := func(t *testing.T, r result, headers int) {
		t.Helper()
		if got := r.header.Get("x-head"); len(got) != headers {
			t.Errorf("header %v, want %d values", got, headers)
		}
		if got := r.trailer.Get("grpc-retry-pushback-ms"); !slices.Equal(got, []string{"10", "20"}) {
			t.Errorf("trailer %v", got)
		}
	}
	eachKind(t, func(t *testing.T, _ string, do doer) {
		r := do(t.Context(), plan, "a")
		wantCode(t, r, codes.OK)
		check(t, r, 2)

		failing := proto.CloneOf(plan)
		failing.Failure = &echov1.Failure{Code: int32(codes.Unavailable)}
		r = do(t.Context(), failing, "a")
		wantCode(t, r, codes.Unavailable)
		check(t, r, 2)

		failing.FlushHeaders = true
		r = do(t.Context(), failing, "a")
		wantCode(t, r, codes.Unavailable)
		check(t, r, 2)
	})
}

// TestHeadersArriveBeforeTheDelay is what tests of a stream's commit need.
func TestHeadersArriveBeforeTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s, err := dial(t).ServerStream(t.Context(), &echov1.ServerStreamRequest{Plan: &echov1.Plan{
			Delay:        durationpb.New(time.Minute),
			FlushHeaders: true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Header(); err != nil || time.Since(start) != 0 {
			t.Fatalf("headers after %v, %v", time.Since(start), err)
		}
		if _, err := s.Recv(); err != nil || time.Since(start) != time.Minute {
			t.Fatalf("response after %v, %v", time.Since(start), err)
		}
		if _, err := s.Recv(); err == nil {
			t.Fatal("a second response")
		}
	})
}

// TestHeadersOfALaterPlan shows that a plan which comes too late for its headers
// is followed in everything else.
func TestHeadersOfALaterPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := dial(t).BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := s.Send(&echov1.BidiStreamRequest{Plan: &echov1.Plan{
				FlushHeaders: true,
				Headers:      []*echov1.MetadataEntry{{Key: "x-head", Values: []string{"1"}}},
				Trailers:     []*echov1.MetadataEntry{{Key: "x-trail", Values: []string{"1"}}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err == nil {
			t.Fatal("a fourth response")
		}
		header, err := s.Header()
		if got := len(header.Get("x-head")); err != nil || got != 1 {
			t.Errorf("%d headers, %v; want those of the first plan", got, err)
		}
		if got := len(s.Trailer().Get("x-trail")); got != 3 {
			t.Errorf("%d trailers, want all three", got)
		}
	})
}

func TestPanic(t *testing.T) {
	var caught []any
	recovered := func(handler func() error) (err error) {
		defer func() {
			if p := recover(); p != nil {
				caught = append(caught, p)
				err = status.Error(codes.Internal, "recovered")
			}
		}()
		return handler()
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				caught = nil
				client := dial(t, around(recovered)...)
				r := k.do(t.Context(), client, &echov1.Plan{Failure: &echov1.Failure{Panic: "boom"}}, "a")
				if wantCode(t, r, codes.Internal); !slices.Equal(caught, []any{"boom"}) {
					t.Errorf("caught %v", caught)
				}
			})
		})
	}
}

func TestInvalidPlans(t *testing.T) {
	entry := func(key string, values ...string) []*echov1.MetadataEntry {
		return []*echov1.MetadataEntry{{Key: key, Values: values}}
	}
	tests := []struct {
		plan *echov1.Plan
		says string
	}{
		{&echov1.Plan{Delay: durationpb.New(-1)}, "delay"},
		{&echov1.Plan{Delay: &durationpb.Duration{Nanos: 2_000_000_000}}, "delay"},
		{&echov1.Plan{Responses: new(int32(-1))}, "responses is -1"},
		{&echov1.Plan{PayloadSize: -1}, "payload_size is -1"},
		{&echov1.Plan{PayloadSize: echov1.MaxPayload + 1}, "payload_size is 67108865"},
		{&echov1.Plan{Failure: &echov1.Failure{}}, "failure.code is 0"},
		{&echov1.Plan{Failure: &echov1.Failure{Code: -1}}, "failure.code is -1"},
		{&echov1.Plan{Failure: &echov1.Failure{Code: 14, After: -1}}, "failure.after is -1"},
		{&echov1.Plan{Failure: &echov1.Failure{Code: 14, Attempts: -1}}, "failure.attempts is -1"},
		{&echov1.Plan{Headers: entry("")}, "headers"},
		{&echov1.Plan{Headers: entry("X-Upper", "1")}, "headers"},
		{&echov1.Plan{Trailers: entry("x y", "1")}, "trailers"},
		{&echov1.Plan{Trailers: entry("x", "a\nb")}, "trailers"},
		{&echov1.Plan{Trailers: entry("x", "ü")}, "trailers"},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			eachKind(t, func(t *testing.T, _ string, do doer) {
				r := do(t.Context(), tt.plan, "a")
				wantCode(t, r, codes.InvalidArgument)
				if !strings.Contains(r.err.Error(), tt.says) {
					t.Errorf("%q does not name %q", r.err, tt.says)
				}
			})
		})
	}
}

// TestConcurrently gives the race detector RPCs of all kinds on one Server.
func TestConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := dial(t)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				k, payload := kinds[i%len(kinds)], fmt.Sprint(i)
				r := k.do(t.Context(), client, &echov1.Plan{Delay: durationpb.New(time.Second)}, payload)
				if r.err != nil || len(r.responses) != 1 || string(r.responses[0].GetPayload()) != payload {
					t.Errorf("%s %s: %v", k.name, payload, r.err)
				}
			})
		}
		wg.Wait()
	})
}
