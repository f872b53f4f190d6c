package turret_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// Layers that change types are functions from Service to Service: here a service
// of strings becomes one of numbers.
func ExampleMapRequest() {
	greet := turret.ServiceFunc(func(_ context.Context, name string) (string, error) { return "hello " + name, nil })

	byNumber := turret.MapRequest[string](strconv.Itoa)(greet)
	length := turret.MapResponse[int](func(s string) int { return len(s) })(byNumber)

	fmt.Println(byNumber.Call(context.Background(), 7))
	fmt.Println(length.Call(context.Background(), 7))
	// Output:
	// hello 7 <nil>
	// 7 <nil>
}

// Where the types stay the same they go into a stack like any layer.
func ExampleMapResponse() {
	service := turret.Stack(
		turret.MapResponse[string](strings.ToUpper),
		turret.MapRequest[string](strings.TrimSpace),
	)(turret.ServiceFunc(func(_ context.Context, name string) (string, error) { return "hello " + name, nil }))
	fmt.Println(service.Call(context.Background(), "  gopher "))
	// Output:
	// HELLO GOPHER <nil>
}

// A driver that says in its own words that it has sent nothing.
func ExampleMapErr() {
	errPoolExhausted := errors.New("pool exhausted")
	database := turret.ServiceFunc(func(context.Context, string) (string, error) { return "", errPoolExhausted })

	service := turret.MapErr[string, string](func(err error) error {
		if errors.Is(err, errPoolExhausted) {
			return turret.NotReady(err)
		}
		return fmt.Errorf("database: %w", err)
	})(database)

	_, err := service.Call(context.Background(), "select 1")
	fmt.Println(err, errors.Is(err, turret.ErrNotReady))
	// Output:
	// pool exhausted true
}

// MapResult sees results and errors, and may make one of the other.
func ExampleMapResult() {
	errNoRows := errors.New("no rows")
	count := turret.ServiceFunc(func(_ context.Context, table string) (int, error) {
		if table == "empty" {
			return 0, errNoRows
		}
		return 42, nil
	})
	service := turret.MapResult[string](func(n int, err error) (string, error) {
		if errors.Is(err, errNoRows) {
			return "nothing", nil
		}
		return strconv.Itoa(n), err
	})(count)

	fmt.Println(service.Call(context.Background(), "full"))
	fmt.Println(service.Call(context.Background(), "empty"))
	// Output:
	// 42 <nil>
	// nothing <nil>
}

// What Then and AndThen run may wait: it is a part of the call.
func ExampleThen() {
	broken := turret.ServiceFunc(func(context.Context, string) (string, error) { return "", errors.New("broken") })
	cache := turret.ServiceFunc(func(_ context.Context, key string) (string, error) { return key + ", cached", nil })

	service := turret.Then[string](func(ctx context.Context, res string, err error) (string, error) {
		if err == nil {
			return res, nil
		}
		return cache.Call(ctx, "an old answer")
	})(broken)

	fmt.Println(service.Call(context.Background(), "what is new?"))
	// Output:
	// an old answer, cached <nil>
}

func ExampleAndThen() {
	userID := turret.ServiceFunc(func(_ context.Context, name string) (int, error) { return len(name), nil })
	mailOf := turret.ServiceFunc(func(_ context.Context, id int) (string, error) { return fmt.Sprintf("user%d@example.com", id), nil })

	mail := turret.AndThen[string](mailOf.Call)(userID) // Service[string, string]

	fmt.Println(mail.Call(context.Background(), "gopher"))
	// Output:
	// user6@example.com <nil>
}

// A filter may look at the request, wait for something, change the request, and
// reject it.
func ExampleFilter() {
	users := map[string]int{"token of ann": 1}
	service := turret.Filter[string](func(_ context.Context, token string) (int, error) {
		if id, ok := users[token]; ok {
			return id, nil
		}
		return 0, errors.New("your name, please")
	})(turret.ServiceFunc(func(_ context.Context, id int) (string, error) { return fmt.Sprint("hello, user ", id), nil }))

	fmt.Println(service.Call(context.Background(), "token of ann"))
	fmt.Println(service.Call(context.Background(), "guess"))
	// Output:
	// hello, user 1 <nil>
	//  your name, please
}

// One service for reads and one for writes.
func ExampleSteer() {
	named := func(name string) Service {
		return turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return name + ": " + req, nil })
	}
	service := turret.Steer(func(_ context.Context, req string, _ []Service) int {
		if strings.HasPrefix(req, "get") {
			return 0
		}
		return 1
	}, named("replica"), named("primary"))

	fmt.Println(service.Call(context.Background(), "get x"))
	fmt.Println(service.Call(context.Background(), "set x"))
	// Output:
	// replica: get x <nil>
	// primary: set x <nil>
}

// A broken shard does not take the others with it.
func ExampleSteerLive() {
	good := turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return "got " + req, nil })
	shards := turret.SteerLive(func(_ context.Context, req string, shards []Service) int {
		i := len(req) % len(shards)
		if turret.IsFinal(turret.ReadyNow(shards[i])) {
			i = (i + 1) % len(shards)
		}
		return i
	}, Service(failed{good}), good)

	fmt.Println(turret.ReadyNow(shards))
	fmt.Println(shards.Call(context.Background(), "ab"))
	// Output:
	// <nil>
	// got ab <nil>
}

// failed is a service that will never be ready again.
type failed struct{ Service }

func (failed) Ready(context.Context) error { return errors.New("disk lost") }

func ExampleOptional() {
	var mirror Service // not configured
	_, err := turret.Optional(mirror).Call(context.Background(), "copy")
	fmt.Println(err, errors.Is(err, turret.ErrNone))
	// Output:
	// optional: no service true
}

// A limit without a line refuses; Do waits until there is room.
func ExampleDo() {
	places := limit.NewConcurrency(1, limit.Queue{})
	service := turret.Gated[string, string](places, nil)(turret.ServiceFunc(
		func(_ context.Context, req string) (string, error) { return "did " + req, nil }))

	ticket, _ := places.Enter(context.Background()) // another call has the only place
	_, err := service.Call(context.Background(), "now")
	fmt.Println(err)

	go places.Leave(ticket, turret.Success)
	fmt.Println(turret.Do(context.Background(), service, "soon"))
	// Output:
	// limit: no room
	// did soon <nil>
}

// Three calls at a time, results in order.
func ExampleCallAll() {
	square := turret.ServiceFunc(func(_ context.Context, n int) (int, error) {
		if n == 3 {
			return 0, errors.New("not today")
		}
		return n * n, nil
	})
	for res, err := range turret.CallAll(context.Background(), square, slices.Values([]int{1, 2, 3, 4}), 3) {
		fmt.Println(res, err)
	}
	// Output:
	// 1 <nil>
	// 4 <nil>
	// 0 not today
	// 16 <nil>
}

// The quick answer does not wait for the slow one.
func ExampleCallAllUnordered() {
	quickSeen := make(chan struct{})
	service := turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
		if req == "slow" {
			<-quickSeen
		}
		return req, nil
	})
	for res, err := range turret.CallAllUnordered(context.Background(), service, slices.Values([]string{"slow", "quick"}), 2) {
		fmt.Println(res, err)
		if res == "quick" {
			close(quickSeen)
		}
	}
	// Output:
	// quick <nil>
	// slow <nil>
}

// Tower's GlobalConcurrencyLimit is a Gate that is used twice: it bounds both
// services together, whatever their types.
func ExampleGated_shared() {
	both := limit.NewConcurrency(2, limit.Queue{})
	inner := turret.ServiceFunc(func(context.Context, string) (string, error) {
		return fmt.Sprint(both.Stats().InFlight, " inside"), nil
	})
	a := turret.Gated[string, string](both, nil)(inner)
	b := turret.Gated[int, string](both, nil)(turret.MapRequest[string](strconv.Itoa)(a)) // a call of b is one of a

	fmt.Println(a.Call(context.Background(), "x"))
	fmt.Println(b.Call(context.Background(), 1))
	// Output:
	// 1 inside <nil>
	// 2 inside <nil>
}

// A Maker is a service like any other, so a limit bounds how many connections
// are made at a time.
func ExampleMaker() {
	dial := turret.ServiceFunc(func(_ context.Context, address string) (Service, error) {
		return turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
			return req + " from " + address, nil
		}), nil
	})
	limited := turret.Gated[string, Service](limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded}), nil)(dial)
	ask(limited, "10.0.0.1:80")
	ask(turret.Shared[string](echo), "10.0.0.2:80")
	// Output:
	// hello from 10.0.0.1:80 <nil>
	// hello <nil>
}

func ask(maker turret.Maker[string, string, string], address string) {
	service, err := maker.Call(context.Background(), address)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(service.Call(context.Background(), "hello"))
}
