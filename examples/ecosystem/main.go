// Command ecosystem runs interceptors of go-grpc-middleware and layers of Turret
// in one stack, on either side of a connection.
//
// It starts an Echo server on loopback TCP and calls it in situations that end
// with one layer or another: theirs (authentication, validation) and ours (a
// retry, a limit), on RPCs of all four kinds. It prints how each ended, and what
// the logging interceptor wrote. It needs no argument and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/internal/echo"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "ecosystem:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if err := parse(args, out); err != nil {
		return err
	}
	var log journal
	stop, address, err := serve(ctx, &log)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := grpc.NewClient(address, append(clientStack(&log).DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), // gRPC's own, which would multiply with ours
	)...)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	report, err := tell(ctx, echov1.NewEchoServiceClient(conn), &log)
	if err := errors.Join(err, conn.Close()); err != nil {
		return err
	}
	_, err = io.WriteString(out, report)
	return err
}

const usage = `Calls a server through go-grpc-middleware's interceptors and Turret's layers, in one stack.

usage: ecosystem
`

// parse takes no argument but -h.
func parse(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("ecosystem", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { _, _ = io.WriteString(out, usage) }
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; -h explains", flags.Arg(0))
	}
	return nil
}

// serve starts an Echo server behind the stack.
func serve(ctx context.Context, log *journal) (stop func(), address string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer(serverStack(log).ServerOptions()...)
	echov1.RegisterEchoServiceServer(server, echo.New("the server"))
	go func() { _ = server.Serve(listener) }() // returns nil after Stop
	return server.Stop, listener.Addr().String(), nil
}
