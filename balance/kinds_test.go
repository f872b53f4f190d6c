package balance

import (
	"fmt"
	"strings"
	"testing"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// Methods that exist are known, however many others are asked for; those that do
// not exist count as unary. A proxy's peers choose the methods: neither many
// names nor long ones fill the memory.
func TestKinds(t *testing.T) {
	var k kinds
	filled := map[string]*kind{} // as by maxKinds-100 names, each of which copies those before it
	for i := range maxKinds - 100 {
		filled[fmt.Sprintf("/made.Up/Before%d", i)] = new(kind)
	}
	k.known.Store(&filled)
	for i := range 200 {
		if k.isStream(fmt.Sprintf("/made.Up/Method%d", i)) {
			t.Fatal("a method that does not exist is a stream")
		}
	}
	for range 2 {
		for method, want := range map[string]bool{
			echov1.EchoService_Unary_FullMethodName:        false,
			echov1.EchoService_ClientStream_FullMethodName: true,
			echov1.EchoService_ServerStream_FullMethodName: true,
			echov1.EchoService_BidiStream_FullMethodName:   true,
			"": false, "/": false, "/turret.echo.v1.EchoService": false, "\xff": false,
		} {
			if got := k.isStream(method); got != want {
				t.Errorf("%q is a stream: %v, want %v", method, got, want)
			}
		}
	}
	if n := len(*k.known.Load()); n != maxKinds {
		t.Errorf("%d names are kept, want %d", n, maxKinds)
	}
	var long kinds
	for i := range 200 {
		long.isStream(fmt.Sprintf("/made.Up/%d%s", i, strings.Repeat("x", maxName)))
	}
	if long.known.Load() != nil {
		t.Errorf("%d long names are kept", len(*long.known.Load()))
	}
	for i := range long.recent {
		if kept := long.recent[i].Load(); kept != nil {
			t.Fatalf("a name of %d bytes is kept as a recent one", len(kept.method))
		}
	}
}
