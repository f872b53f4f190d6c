//go:build unix

package policyfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

const interval = time.Second

// limited is a policy of one limit.
func limited(n string) string {
	return "rules:\n- {name: a, methods: [\"/*\"], server: {limit: {max: " + n + "}}}\n"
}

// A watched is a policy whose file is watched, in a bubble.
type watched struct {
	t       *testing.T
	policy  *policy.Policy
	name    string
	mu      sync.Mutex
	reports []policyfile.Report
}

// watch loads the file name, which holds limited("1"), and watches it while f runs.
func watch(t *testing.T, name string, f func(w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		doc, err := policyfile.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.New(doc, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w := &watched{t: t, policy: p, name: name}
		ended := make(chan error)
		go func() {
			ended <- policyfile.Watch(ctx, p, name, interval, func(r policyfile.Report) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.reports = append(w.reports, r)
			})
		}()
		synctest.Wait()
		f(w)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
}

// after lets that many intervals pass.
func (w *watched) after(intervals int) {
	time.Sleep(time.Duration(intervals)*interval + interval/2)
	synctest.Wait()
	time.Sleep(interval / 2)
	synctest.Wait()
}

// has checks the limit that holds, and how many reports there have been.
func (w *watched) has(limit string, reports int) {
	w.t.Helper()
	held := w.policy.Explain("/a.B/C").Blocks
	if len(held) != 1 || held[0].Value != "{max: "+limit+"}" {
		w.t.Errorf("the policy has %v, want a limit of %s", held, limit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.reports) != reports {
		w.t.Errorf("%d reports, want %d: %v", len(w.reports), reports, w.reports)
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	put(t, name, limited("1"))
	return name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchLoadsWhatIsWrittenInPlace(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		w.after(5)
		w.has("1", 0)
		put(t, name, limited("2"))
		w.after(2)
		w.has("2", 1)
		if c := w.reports[0].Changes.Changed; len(c) != 1 || c[0].Fate != policy.FateRetuned {
			t.Errorf("the report is %v", w.reports[0])
		}
		w.after(5)
		w.has("2", 1)
	})
}

func TestWatchLoadsWhatWasRenamed(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		put(t, name+".new", limited("2"))
		must(t, os.Rename(name+".new", name))
		w.after(2)
		w.has("2", 1)
	})
}

// Kubernetes switches the link ..data, through which the files of a ConfigMap are
// links.
func TestWatchFollowsLinksThatAreSwitched(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(dir, "..v"+n), 0o700))
		put(t, filepath.Join(dir, "..v"+n, "policy.yaml"), limited(n))
	}
	must(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
	name := filepath.Join(dir, "policy.yaml")
	must(t, os.Symlink(filepath.Join("..data", "policy.yaml"), name))
	watch(t, name, func(w *watched) {
		must(t, os.Symlink("..v2", filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		must(t, os.RemoveAll(filepath.Join(dir, "..v1")))
		w.after(2)
		w.has("2", 1)
	})
}

func TestWatchKeepsThePolicyWhileTheFileIsMissing(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		must(t, os.Remove(name))
		w.after(5)
		w.has("1", 1)
		if !errors.Is(w.reports[0].Err, os.ErrNotExist) {
			t.Errorf("the report is %v", w.reports[0].Err)
		}
		put(t, name, limited("1"))
		w.after(3)
		w.has("1", 1)
		put(t, name, limited("2"))
		w.after(2)
		w.has("2", 2)
	})
}

func TestWatchReportsABrokenFileOnce(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		put(t, name, limited("-1"))
		w.after(6)
		w.has("1", 1)
		if _, ok := errors.AsType[policy.Errors](w.reports[0].Err); !ok {
			t.Errorf("the report is %v", w.reports[0].Err)
		}
		put(t, name, limited("3"))
		w.after(2)
		w.has("3", 2)
	})
}

// A change between Load and Watch is not lost.
func TestWatchComparesWithWhatIsLoaded(t *testing.T) {
	name := file(t)
	synctest.Test(t, func(t *testing.T) {
		doc, err := policyfile.Load(name)
		must(t, err)
		p, err := policy.New(doc, policy.Config{})
		must(t, err)
		put(t, name, limited("2"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*interval+1)
		defer cancel()
		_ = policyfile.Watch(ctx, p, name, interval, nil)
		if got := p.Explain("/a.B/C").Blocks[0].Value; got != "{max: 2}" {
			t.Errorf("the policy has %s", got)
		}
	})
}

// What one look finds is not loaded: the file may be cut off in the middle.
func TestWatchWaitsForTwoEqualLooks(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		for i := range 5 {
			put(t, name, limited("2")+strings.Repeat("#", i))
			time.Sleep(interval)
			synctest.Wait()
			w.has("1", 0)
		}
		w.after(2)
		w.has("2", 1)
	})
}

func TestWatchGoesOnAfterWhatIsNoFile(t *testing.T) {
	name := file(t)
	watch(t, name, func(w *watched) {
		must(t, os.Remove(name))
		must(t, os.Mkdir(name, 0o700))
		w.after(3)
		w.has("1", 1)
		must(t, os.Remove(name))
		must(t, syscall.Mkfifo(name, 0o600))
		w.after(3)
		w.has("1", 2)
		must(t, os.Remove(name))
		put(t, name, limited("2"))
		w.after(2)
		w.has("2", 3)
	})
}

func TestLoadOfWhatIsNoPolicy(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	huge := filepath.Join(dir, "huge.yaml")
	must(t, os.WriteFile(huge, nil, 0o600))
	must(t, os.Truncate(huge, 16<<20+1))
	for _, tt := range []struct{ name, file, text, want string }{
		{"a directory", dir, "", "is a directory, must be a regular file"},
		{"a pipe", pipe, "", "is a pipe, must be a regular file"},
		{"a device", os.DevNull, "", "is a device, must be a regular file"},
		{"a missing file", filepath.Join(dir, "missing"), "", "no such file"},
		{"more than 16 MiB", huge, "", "is longer than 16777216 bytes"},
		{"invalid UTF-8", filepath.Join(dir, "latin.yaml"), "rules:\n- name: caf\xe9\n", "latin.yaml:2:12: is not valid UTF-8 here"},
		{"UTF-16", filepath.Join(dir, "utf16.yaml"), "\xff\xfer\x00u\x00", "utf16.yaml:1:1: is not valid UTF-8 here"},
		{"deep lists", filepath.Join(dir, "deep.yaml"), strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested more than 100 deep"},
		{"deeper lists", filepath.Join(dir, "deeper.yaml"), strings.Repeat("[", 1<<19), "is not valid YAML"},
		{"deep maps in JSON", filepath.Join(dir, "deep.json"), strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), "nested more than 100 deep"},
		{"many aliases", filepath.Join(dir, "bomb.yaml"), "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "has an anchor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.text != "" {
				put(t, tt.file, tt.text)
			}
			_, err := policyfile.Load(tt.file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %q", err, tt.want)
			}
		})
	}
}
