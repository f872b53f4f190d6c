package policy_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/turret-go/turret/policy"
	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
)

// A program that knows of streams only, as one whose only generated code is that of
// turret.load.v1, may be given the file of many programs.
func TestEverythingIsForMethodsOfAllKinds(t *testing.T) {
	files := new(protoregistry.Files)
	if err := files.RegisterFile(loadv1.File_turret_load_v1_load_proto); err != nil {
		t.Fatal(err)
	}
	const text = "rules: [{name: a, methods: [\"/*\"], client: {timeout: 2s, attempt_timeout: 1s}, server: {timeout: 5s, stream_timeout: 1h}}]"
	if p := compile(t, text, policy.Config{Methods: policy.InFiles(files)}); len(p.Warnings()) > 0 {
		t.Error(p.Warnings())
	}
}
