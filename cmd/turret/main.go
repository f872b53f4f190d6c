// Command turret looks at programs that use Turret, and at their policies.
//
//	turret policy check policy.yaml    # what is wrong in a policy
//	turret policy explain policy.yaml /package.Service/Method
//	turret policy diff old.yaml new.yaml
//	turret policy import service_config.json
//	turret top http://localhost:8080/debug/turret    # a status page on the terminal
//
// turret COMMAND -h explains a command. The exit status is 0 if all is well, 1 if
// something was found, and 2 if the command could not be carried out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// A command is a subcommand of turret.
type command struct {
	name  string
	about string // one line
	run   func(ctx context.Context, s streams, args []string) error
}

// streams are what a command reads and writes.
type streams struct {
	out, err io.Writer
}

// commands are all subcommands.
var commands = []command{
	{"policy", "check, explain, compare and import policies", runPolicy},
	{"top", "show a status page on the terminal", runTop},
}

// The errors below are what a command ends with when it has said all there is to
// say; they decide the exit status.
var (
	errFound = errors.New("something was found")
	errUsage = errors.New("wrong usage")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, streams{os.Stdout, os.Stderr}, os.Args[1:])
	stop()
	os.Exit(status)
}

// run runs turret, and returns its exit status.
func run(ctx context.Context, s streams, args []string) int {
	err := dispatch(ctx, s, "turret", commands, args)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errFound):
		return 1
	case !errors.Is(err, errUsage):
		fmt.Fprintln(s.err, "turret:", err)
	}
	return 2
}

// dispatch runs the command that args begin with.
func dispatch(ctx context.Context, s streams, name string, commands []command, args []string) error {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				return c.run(ctx, s, args[1:])
			}
		}
	}
	help := len(args) == 1 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help")
	out := s.err
	if help {
		out = s.out
	} else if len(args) > 0 {
		fmt.Fprintf(out, "%s: there is no command %q\n", name, args[0])
	}
	fmt.Fprintf(out, "usage: %s COMMAND [arguments]\n\n", name)
	for _, c := range commands {
		fmt.Fprintf(out, "  %-10s %s\n", c.name, c.about)
	}
	if help {
		return nil
	}
	return errUsage
}
