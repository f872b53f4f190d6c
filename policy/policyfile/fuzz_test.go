package policyfile_test

import (
	"errors"
	"testing"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

func FuzzParse(f *testing.F) {
	for _, w := range corpus(f) {
		for _, form := range w.forms {
			f.Add([]byte(form.text))
		}
	}
	f.Add([]byte("rules:\n- {name: a, methods: [\"/*\"], server: {limit: {max: 1}}}\n"))
	catalogue := policy.Linked()
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		doc, err := policyfile.Parse("p.yaml", data)
		if err != nil {
			if _, ok := errors.AsType[policy.Errors](err); !ok {
				t.Fatalf("the error is a %T", err)
			}
			return
		}
		p, err := policy.New(doc, policy.Config{Methods: catalogue})
		if err != nil {
			return
		}
		again, err := policyfile.Parse("p.yaml", policyfile.Format(p.Document()))
		if err != nil {
			t.Fatalf("what Format writes cannot be read: %v\n%s", err, policyfile.Format(p.Document()))
		}
		if changes, err := p.Diff(again); err != nil || len(changes.Changed) > 0 {
			t.Fatalf("what Format writes says otherwise: %v %v\n%s", changes, err, policyfile.Format(p.Document()))
		}
	})
}
