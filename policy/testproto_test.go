package policy_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/policy"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// shop is the methods of a .proto file with options:
//
//	service Shop {
//	  option (turret.policy.v1.service) = {client: {timeout: {seconds: 2}, retry: {codes: CODE_UNAVAILABLE}}};
//	  rpc Buy(Empty) returns (Empty) {option (turret.policy.v1.method) = {client: {retry: {max_attempts: 2}}};}
//	  rpc Look(Empty) returns (Empty) {option idempotency_level = NO_SIDE_EFFECTS;}
//	  rpc Put(Empty) returns (Empty) {option idempotency_level = IDEMPOTENT;}
//	  rpc Watch(Empty) returns (stream Empty);
//	}
func shop(t testing.TB) *policy.Catalogue {
	t.Helper()
	service := new(descriptorpb.ServiceOptions)
	proto.SetExtension(service, policyv1.E_Service, &policyv1.Options{Client: &policyv1.Client{
		Timeout: durationpb.New(2 * time.Second),
		Retry:   &policyv1.Retry{Codes: []policyv1.Code{policyv1.Code_CODE_UNAVAILABLE}},
	}})
	buy := new(descriptorpb.MethodOptions)
	proto.SetExtension(buy, policyv1.E_Method, &policyv1.Options{Client: &policyv1.Client{
		Retry: &policyv1.Retry{MaxAttempts: new(int32(2))},
	}})
	method := func(name string, o *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: new(name), InputType: new(".shop.v1.Empty"), OutputType: new(".shop.v1.Empty"), Options: o,
		}
	}
	watch := method("Watch", nil)
	watch.ServerStreaming = new(true)
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: new("shop/v1/shop.proto"), Package: new("shop.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Empty")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("Shop"), Options: service,
			Method: []*descriptorpb.MethodDescriptorProto{
				method("Buy", buy),
				method("Look", &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}),
				method("Put", &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_IDEMPOTENT.Enum()}),
				watch,
			},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return policy.InFiles(files)
}
