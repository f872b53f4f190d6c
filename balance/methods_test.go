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
func TestMethods(t *testing.T) {
	k := newMethods()
	for i := range maxMethods + 100 {
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
	if n := k.known.Len(); n != maxMethods {
		t.Errorf("%d names are kept, want %d", n, maxMethods)
	}
	long := newMethods()
	for i := range 200 {
		long.isStream(fmt.Sprintf("/made.Up/%d%s", i, strings.Repeat("x", maxName)))
	}
	if n := long.known.Len(); n > 0 {
		t.Errorf("%d long names are kept", n)
	}
	for i := range long.recent {
		if kept := long.recent[i].Load(); kept != nil {
			t.Fatalf("a name of %d bytes is kept as a recent one", len(kept.method))
		}
	}
}
