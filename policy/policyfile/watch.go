package policyfile

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/policy"
)

// A Report says what [Watch] has found.
type Report struct {
	// Err is why a file was not loaded: it cannot be read, or it has errors (a
	// policy.Errors). nil if it was loaded. The policy is then as it was before.
	Err error
	// Changes is what the file has changed. It is empty if Err is not nil.
	Changes policy.Changes
}

// Watch loads the file into p whenever its content is no longer that of the
// document that p has, until ctx ends. It looks at the file every so often and
// compares bytes: renames, symbolic links that are switched, as Kubernetes does
// with ConfigMaps, and files that are written in place are all the same to it. A
// change is loaded when two looks in a row have found the same content, so that a
// file that is still being written is not; it takes effect within two intervals.
//
// report, if not nil, gets each load, and each error once: a file that stays
// broken is reported once, and p keeps its policy meanwhile. It runs on the
// goroutine of Watch.
//
// Watch returns ctx's error. It panics if every is not positive.
func Watch(ctx context.Context, p *policy.Policy, name string, every time.Duration, report func(Report)) error {
	if every <= 0 {
		panic(fmt.Errorf("policyfile: Watch: %w", &turret.FieldError{Field: "every", Value: every, Bound: "positive"}))
	}
	if report == nil {
		report = func(Report) {}
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	w := &watcher{policy: p, name: name, report: report}
	for {
		w.look()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// A watcher is what Watch remembers from look to look.
type watcher struct {
	policy *policy.Policy
	name   string
	report func(Report)

	seen    []byte // content of the last look, if it was not that of the policy
	pending bool   // there is such a content
	refused []byte // content that has errors, which were reported
	failure string // text of the error of the last look, which was reported
}

func (w *watcher) look() {
	data, err := read(w.name)
	if err != nil {
		w.pending = false
		if text := err.Error(); text != w.failure {
			w.failure = text
			w.report(Report{Err: err})
		}
		return
	}
	w.failure = ""
	switch {
	case bytes.Equal(data, w.policy.Document().Source):
		w.pending, w.refused = false, nil
	case !w.pending || !bytes.Equal(data, w.seen):
		w.seen, w.pending = data, true
	case w.refused == nil || !bytes.Equal(data, w.refused):
		w.load(data)
	}
}

// load loads a content that two looks have found.
func (w *watcher) load(data []byte) {
	document, err := Parse(w.name, data)
	var changes policy.Changes
	if err == nil {
		changes, err = w.policy.Load(document)
	}
	if err != nil {
		w.refused = data
	} else {
		w.pending, w.refused = false, nil
	}
	w.report(Report{Err: err, Changes: changes})
}
