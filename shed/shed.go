package shed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/turret-go/turret"
)

// ErrOverloaded stands for the one reason to shed: something inside was not
// ready. The refusal, a [*turret.Refusal] with the reason OVERLOADED, matches it.
var ErrOverloaded = errors.New("not ready for more")

// refusal is what every call gets that is shed: nothing in it varies.
var refusal = &turret.Refusal{
	Kind:   turret.KindOverloaded,
	Layer:  "shed",
	Reason: turret.ReasonOverloaded,
	Err:    ErrOverloaded,
}

// Layer returns a [turret.Layer] that asks the inner service whether it is ready,
// without waiting, and calls it if it is. If not, the call fails at once with a
// *turret.Refusal of KindOverloaded that matches [ErrOverloaded]. An error of
// Ready that is final is returned as it is.
//
// The inner service is asked on behalf of the caller: it sees a context that is
// done and has the values of the call's.
//
// The layer itself is always ready, as Tower's LoadShed is: it answers every call
// at once. Only a final error passes through its Ready. Code that must see how
// busy the inner service is (a balancer) must be inside. The layer keeps no
// state and may be used for any number of services, and each of those from many
// goroutines at once.
func Layer[Req, Res any]() turret.Layer[Req, Res] {
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] {
		return &shedder[Req, Res]{Service: inner}
	}
}

type shedder[Req, Res any] struct {
	turret.Service[Req, Res]

	refused atomic.Uint64
}

// Ready is nil, or the inner service's final error.
func (s *shedder[Req, Res]) Ready(ctx context.Context) error {
	if err := s.ask(ctx); turret.IsFinal(err) {
		return err
	}
	return nil
}

func (s *shedder[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	if err := s.ask(ctx); err != nil {
		if turret.IsFinal(err) {
			return res, err
		}
		s.refused.Add(1)
		return res, refusal
	}
	return s.Service.Call(ctx, req)
}

// ask reports without waiting whether the inner service has room for the owner of
// ctx.
func (s *shedder[Req, Res]) ask(ctx context.Context) error {
	q := questions.Get().(*question)
	q.Context = ctx
	err := s.Service.Ready(q)
	q.Context = context.Background() // what belongs to the call is not to outlive it
	questions.Put(q)
	return err
}

// String returns the layer in words, for printed stacks.
func (s *shedder[Req, Res]) String() string { return "load shed" }

// A question is a context that is done, with the values of another one. Ready
// answers it at once.
type question struct{ context.Context }

// questions are pooled: a Ready that has returned does not use its context any
// more, and a call that is let in should cost no allocation.
var questions = sync.Pool{New: func() any { return new(question) }}

// done is closed.
var done = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (*question) Done() <-chan struct{} { return done }

func (*question) Err() error { return context.Canceled }

func (q *question) String() string { return fmt.Sprintf("%v, done", q.Context) }
