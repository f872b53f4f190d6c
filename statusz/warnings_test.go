package statusz

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// sendRPC makes a unary RPC on the client side of a stack.
func sendRPC(s *interceptors.Stack) {
	_ = s.UnaryClient()(context.Background(), "/s.S/M", nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil })
}

func checks(v View) string {
	var all []string
	for _, w := range v.Warnings {
		all = append(all, w.Check)
	}
	return strings.Join(all, " ")
}

// TestWarnings checks that mistakes are shown for the sides whose RPCs pass through
// a stack, that they are no findings, and that they can be accepted.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepting := New(Config{}), New(Config{Accept: []string{"limit-outside-retry"}})
		defer p.Close()
		defer accepting.Close()
		stack := interceptors.New(interceptors.Recover(), p.Layer(), interceptors.ConcurrencyLimit(9, limit.Queue{}), interceptors.Retry(retry.Config{}))
		p.Add("<front>", stack)
		accepting.Add("front", stack)
		time.Sleep(2 * time.Second)
		if v := p.View(); len(v.Warnings) != 0 {
			t.Errorf("warnings before the first RPC: %+v", v.Warnings)
		}
		sendRPC(stack)
		time.Sleep(2 * time.Second)
		v := p.View()
		if got := checks(v); got != "limit-outside-retry" || !strings.HasPrefix(v.Warnings[0].Where, "<front> › ") {
			t.Errorf("warnings %+v", v.Warnings)
		}
		body := get(p, "/").Body.String()
		if !strings.Contains(body, "All quiet") || !strings.Contains(body, "put the limit inside Retry") || strings.Contains(body, "<front>") {
			t.Errorf("the page: %s", body)
		}
		call(stack, "/s.S/M", nil) // the other side: its warning reaches the page as an event
		time.Sleep(2 * time.Second)
		if got := checks(p.View()); got != "both-sides limit-outside-retry retry-on-server wrong-side" {
			t.Errorf("warnings of both sides: %s", got)
		}
		if got := checks(accepting.View()); got != "both-sides retry-on-server" {
			t.Errorf("warnings that are left: %s", got)
		}
		for _, w := range p.View().Warnings {
			if w.Turn == "" || w.What == "" || w.Where == "" {
				t.Errorf("%+v", w)
			}
		}
	})
}

// wrongStack is a stack that has many mistakes, and panics for the other side.
type wrongStack struct{ describer }

func (wrongStack) Sides() []interceptors.Side {
	return []interceptors.Side{interceptors.SideClient, interceptors.SideServer}
}

func (wrongStack) Lint(side interceptors.Side) (all []interceptors.Finding) {
	if side == interceptors.SideServer {
		panic("lint")
	}
	for i := range 1000 {
		all = append(all, interceptors.Finding{Check: "check", Layer: fmt.Sprint(i), Text: "<img src=x>", Fix: "fix"})
	}
	return all
}

// TestWarningsAreBounded checks a stack that has many of them.
func TestWarningsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		p.Add("wrong", wrongStack{func(d *turret.Description) { d.Is("stack", "stack") }})
		v := p.View()
		if len(v.Warnings) != mostWarnings || v.MoreWarnings != 1001-mostWarnings {
			t.Errorf("%d warnings, and %d more", len(v.Warnings), v.MoreWarnings)
		}
		if w := get(p, "/"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "<img") {
			t.Errorf("status %d, %s", w.Code, w.Body)
		}
	})
}
