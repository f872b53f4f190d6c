package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A scene is a situation in which an RPC ends with one of the layers.
type scene struct {
	name  string
	by    string // whose layer decides
	token string
	plan  *echov1.Plan
	full  bool // while another RPC occupies the server
}

var scenes = []scene{
	{name: "no token", by: "auth, theirs"},
	{name: "bob's token", by: "Filter, ours", token: "b2"},
	{name: "an invalid request", by: "validator, theirs", token: "a1", plan: &echov1.Plan{Responses: new(int32(-1))}},
	{name: "a full server", by: "ConcurrencyLimit, ours", token: "a1", full: true},
	{name: "a server that fails once", by: "Retry, ours", token: "a1", plan: &echov1.Plan{
		Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 1},
	}},
	{name: "nothing special", by: "the handler", token: "a1"},
}

// tell plays all scenes and tells how they ended.
func tell(ctx context.Context, client echov1.EchoServiceClient, log *journal) (report string, err error) {
	t := table.NewWriter()
	header := table.Row{"with", "decided by"}
	for _, c := range calls {
		header = append(header, c.kind.String())
	}
	t.AppendHeader(header)
	for _, s := range scenes {
		ends, err := s.play(ctx, client)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		row := table.Row{s.name, s.by + ends[0].reason}
		for _, e := range ends {
			row = append(row, e.code)
		}
		t.AppendRow(row)
	}
	return t.Render() + "\n\nWhat their logging wrote of the bidirectional streams, on both sides of the connection:\n  " +
		strings.Join(log.of("BidiStream"), "\n  ") + "\n", ctx.Err()
}

// play makes an RPC of each kind and returns how they ended.
func (s scene) play(ctx context.Context, client echov1.EchoServiceClient) (ends []end, err error) {
	if s.full {
		leave, err := occupy(ctx, client)
		if err != nil {
			return nil, err
		}
		defer func() { err = leave() }()
	}
	for _, c := range calls {
		report, err := c.do(as(ctx, s.token), client, s.plan)
		ends = append(ends, endOf(report, err))
	}
	return ends, err
}

// An end is how an RPC ended.
type end struct {
	code   string // and which attempt it was, if not the first
	reason string // if one of our layers gave one
}

func endOf(report *echov1.Report, err error) (e end) {
	e.code = code.Code(status.Code(err)).String()
	if n := report.GetPreviousAttempts(); n > 0 {
		e.code += fmt.Sprintf(", attempt %d", n+1)
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			e.reason = ": " + info.GetReason()
		}
	}
	return e
}
