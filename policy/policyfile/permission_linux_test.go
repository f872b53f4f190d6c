package policyfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

// unprivileged is the id of a user without rights.
const unprivileged = 65534

// withoutRights calls f on a thread that may read only what others may. Tests that
// run as root give up its rights to files for that thread, which ends with f.
func withoutRights(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Getuid() == 0 {
			if err := syscall.Setfsuid(unprivileged); err != nil {
				t.Errorf("setfsuid: %v", err)
				return
			}
		}
		f()
	}()
	<-done
}

// closed makes a file that cannot be read by others, in a directory that can. It
// skips the test where the rights cannot be given up, as in some containers, and
// where others cannot reach the directory of temporary files.
func closed(t *testing.T) (name string) {
	t.Helper()
	name = file(t)
	for _, dir := range []string{filepath.Dir(name), filepath.Dir(filepath.Dir(name))} {
		must(t, os.Chmod(dir, 0o755)) //nolint:gosec // others must see the file
	}
	open := name + ".open"
	must(t, os.WriteFile(open, nil, 0o644)) //nolint:gosec // others must read it
	must(t, os.Chmod(name, 0))
	var ofOpen, ofClosed error
	withoutRights(t, func() {
		_, ofOpen = os.ReadFile(open)
		_, ofClosed = os.ReadFile(name)
	})
	if ofOpen != nil || ofClosed == nil {
		t.Skipf("without rights to files an open file is read with %v, and a closed one with %v", ofOpen, ofClosed)
	}
	return name
}

func TestLoadWithoutPermission(t *testing.T) {
	name := closed(t)
	withoutRights(t, func() {
		if _, err := policyfile.Load(name); !errors.Is(err, os.ErrPermission) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestWatchGoesOnWithoutPermission(t *testing.T) {
	name := closed(t)
	synctest.Test(t, func(t *testing.T) {
		document, err := policyfile.Parse(name, []byte(limited("1")))
		must(t, err)
		p, err := policy.New(document, policy.Config{})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var reports []policyfile.Report
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			withoutRights(t, func() {
				_ = policyfile.Watch(ctx, p, name, interval, func(r policyfile.Report) {
					mu.Lock()
					defer mu.Unlock()
					reports = append(reports, r)
				})
			})
		}()
		w := &watched{t: t, policy: p, name: name}
		w.after(3)
		mu.Lock()
		w.reports = reports
		mu.Unlock()
		w.has("1", 1)
		if !errors.Is(w.reports[0].Err, os.ErrPermission) {
			t.Errorf("the report is %v", w.reports[0].Err)
		}
		must(t, os.Remove(name))
		must(t, os.WriteFile(name, []byte(limited("2")), 0o644)) //nolint:gosec // others must read it
		time.Sleep(3 * interval)
		synctest.Wait()
		cancel()
		<-ended
		w.reports = reports
		w.has("2", 2)
	})
}
