package discover_test

import (
	"context"
	"fmt"

	"github.com/turret-go/turret/discover"
)

// show reads a source to its end.
func show[K comparable](source discover.Source[K, string]) {
	for {
		change, err := source.Next(context.Background())
		switch {
		case err != nil:
			fmt.Println("end:", err)
			return
		case change.Gone:
			fmt.Println("remove", change.Key)
		default:
			fmt.Println("insert", change.Key, change.Service)
		}
	}
}

// Services that come and go, here as their addresses alone.
func Example() {
	changes := make(chan discover.Change[string, string], 3)
	changes <- discover.Insert("a", "10.0.0.1:80")
	changes <- discover.Insert("b", "10.0.0.2:80")
	changes <- discover.Remove[string]("a")
	close(changes)
	show(discover.Channel(changes))
	// Output:
	// insert a 10.0.0.1:80
	// insert b 10.0.0.2:80
	// remove a
	// end: EOF
}

func ExampleList() {
	source := discover.List("10.0.0.1:80", "10.0.0.2:80")
	show(discover.Map(source, func(_ int, address string) string { return "tcp://" + address }))
	// Output:
	// insert 0 tcp://10.0.0.1:80
	// insert 1 tcp://10.0.0.2:80
	// end: EOF
}
