package turrettest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/turret-go/turret"
)

// A fault is one way to write a gate wrong.
type fault string

// The faults of a toy, and the case of the suite that has to find each.
var faults = map[fault]string{
	"admits one less than it says":                "room",
	"admits one more than it says":                "room",
	"Ready refuses although there is room":        "ready with room",
	"Ready takes room":                            "ready takes nothing",
	"Ready stands in the line":                    "ready takes no turn",
	"Ready says yes when full":                    "ready when full",
	"Ready fails for good when full":              "ready when full",
	"Ready never returns":                         "ready returns",
	"Ready promises what is the line's":           "try does not overtake",
	"TryEnter overtakes":                          "try does not overtake",
	"TryEnter waits":                              "try without room",
	"TryEnter fails with a plain error":           "try without room",
	"TryEnter looks whether ctx is done":          "try with ended context",
	"Enter does not look whether ctx is done":     "enter with ended context",
	"Enter fails with ctx's error alone":          "enter when full",
	"Enter refuses with a plain error":            "enter when full",
	"last in, first out":                          "first in first out",
	"no caller in line is woken":                  "first in first out",
	"a cancelled waiter stays in line":            "cancelled in line",
	"a cancelled waiter keeps what it was given":  "cancelled as room comes",
	"a refused call takes room":                   "errors hold nothing",
	"Leave(Failure) loses room":                   "every outcome",
	"Leave of the zero outcome gives two back":    "every outcome",
	"two may see the same room":                   "concurrent calls",
	"Leave waits":                                 "room",
	"Enter waits in line although there is room":  "room",
	"one waiter too many is woken for each leave": "first in first out",
}

// A toy is a gate for three with a line of five, written as plainly as possible,
// and wrong in one way if it has a fault.
type toy struct {
	fault fault

	mu       sync.Mutex
	free     int
	promised int // calls that Ready let in and that have not run since
	line     []chan struct{}
	watchers []chan struct{}
}

const toyRoom = 3

func newToy(f fault) *toy {
	g := &toy{fault: f, free: toyRoom}
	switch f {
	case "admits one less than it says":
		g.free--
	case "admits one more than it says":
		g.free++
	}
	return g
}

var errPlain = errors.New("full")

func (g *toy) refuse() error { return &turret.Refusal{Layer: "toy", Reason: turret.ReasonLimitFull} }

func (g *toy) Ready(ctx context.Context) error {
	g.mu.Lock()
	if g.free > 0 && g.fault != "Ready refuses although there is room" {
		if g.fault == "Ready takes room" {
			g.free--
		}
		g.mu.Unlock()
		return nil
	}
	told := make(chan struct{}, 1)
	if g.fault == "Ready stands in the line" {
		g.line = append(g.line, told)
	} else {
		g.watchers = append(g.watchers, told)
	}
	promised := g.promised
	g.mu.Unlock()
	switch {
	case g.fault == "Ready says yes when full":
		return nil
	case g.fault == "Ready promises what is the line's" && promised > 0:
		return nil
	case g.fault == "Ready fails for good when full" && ctx.Err() != nil:
		return errPlain
	case g.fault == "Ready never returns":
		told = nil
	}
	if ctx.Err() == nil {
		select {
		case <-told:
			return nil
		case <-ctx.Done():
		}
	}
	return turret.NotReady(ctx.Err())
}

func (g *toy) Enter(ctx context.Context) (turret.Ticket, error) {
	if ctx.Err() != nil && g.fault != "Enter does not look whether ctx is done" {
		return turret.Ticket{}, turret.NotReady(ctx.Err())
	}
	told, err := g.join()
	if told == nil {
		return turret.Ticket{}, err
	}
	select {
	case <-told:
		g.mu.Lock()
		g.promised--
		if g.fault == "TryEnter overtakes" {
			g.free--
		}
		g.mu.Unlock()
		if ctx.Err() == nil {
			return turret.Ticket{}, nil
		}
	case <-ctx.Done():
	}
	g.giveUp(told)
	if g.fault == "Enter fails with ctx's error alone" {
		return turret.Ticket{}, ctx.Err()
	}
	return turret.Ticket{}, turret.NotReady(ctx.Err())
}

// join takes room, refuses, or returns a place in line.
func (g *toy) join() (told chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.fault != "Enter waits in line although there is room" && g.take():
		return nil, nil
	case len(g.line) >= 5 && g.fault == "Enter refuses with a plain error":
		return nil, errPlain
	case len(g.line) >= 5:
		return nil, g.refuse()
	}
	told = make(chan struct{}, 1)
	g.line = append(g.line, told)
	return told, nil
}

// take requires that mu is held.
func (g *toy) take() bool {
	if g.free <= 0 {
		return false
	}
	if g.fault == "two may see the same room" {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	g.free--
	return true
}

// giveUp leaves the line, and gives on what was given.
func (g *toy) giveUp(told chan struct{}) {
	if g.fault == "a cancelled waiter stays in line" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.line, told); i >= 0 {
		g.line = slices.Delete(g.line, i, i+1)
	} else if g.fault != "a cancelled waiter keeps what it was given" {
		g.put()
	}
}

func (g *toy) TryEnter(ctx context.Context) (turret.Ticket, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ctx.Err() != nil && g.fault == "TryEnter looks whether ctx is done" {
		return turret.Ticket{}, turret.NotReady(ctx.Err())
	}
	if g.take() {
		return turret.Ticket{}, nil
	}
	switch g.fault {
	case "TryEnter waits":
		g.mu.Unlock()
		<-ctx.Done()
		g.mu.Lock()
	case "TryEnter fails with a plain error":
		return turret.Ticket{}, errPlain
	case "a refused call takes room":
		g.free--
	}
	return turret.Ticket{}, g.refuse()
}

func (g *toy) Leave(_ turret.Ticket, o turret.Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.fault == "Leave(Failure) loses room" && o == turret.Failure:
		return
	case g.fault == "Leave of the zero outcome gives two back" && o == 0:
		g.put()
	case g.fault == "Leave waits" && o == turret.Unused:
		g.mu.Unlock()
		<-time.NewTimer(time.Hour).C
		g.mu.Lock()
	case g.fault == "one waiter too many is woken for each leave":
		g.put()
	}
	g.put()
}

// put gives room to the line, or makes it free. It requires that mu is held.
func (g *toy) put() {
	if len(g.line) > 0 && g.fault != "no caller in line is woken" {
		i := 0
		if g.fault == "last in, first out" {
			i = len(g.line) - 1
		}
		g.line[i] <- struct{}{}
		g.line = slices.Delete(g.line, i, i+1)
		g.promised++
		if g.fault == "TryEnter overtakes" {
			g.free++ // for the head to take when it runs
		}
		return
	}
	g.free++
	for _, told := range g.watchers {
		told <- struct{}{}
	}
	g.watchers = nil
}
