package echov1_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

func TestRequestsValidateTheirPlan(t *testing.T) {
	for _, tt := range []struct {
		plan *echov1.Plan
		want string // in the error; empty: none
	}{
		{nil, ""},
		{&echov1.Plan{}, ""},
		{&echov1.Plan{PayloadSize: echov1.MaxPayload, Responses: new(int32(0)), Failure: &echov1.Failure{Panic: "a fault"}}, ""},
		{&echov1.Plan{Delay: durationpb.New(-1)}, "plan.delay is 0 seconds and -1 nanoseconds"},
		{&echov1.Plan{Responses: new(int32(-1))}, "plan.responses is -1"},
		{&echov1.Plan{PayloadSize: -1}, "plan.payload_size is -1"},
		{&echov1.Plan{Failure: &echov1.Failure{}}, "plan.failure.code is 0"},
		{&echov1.Plan{Trailers: []*echov1.MetadataEntry{{Key: "Upper"}}}, `plan.trailers has the key "Upper"`},
	} {
		for _, req := range []interface{ Validate() error }{
			&echov1.UnaryRequest{Plan: tt.plan}, &echov1.ServerStreamRequest{Plan: tt.plan},
			&echov1.ClientStreamRequest{Plan: tt.plan}, &echov1.BidiStreamRequest{Plan: tt.plan},
		} {
			err := req.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%T with %v: %v, want %q", req, tt.plan, err, tt.want)
			}
		}
	}
}
