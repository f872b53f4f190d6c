package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
	"github.com/turret-go/turret/policy/serviceconfig"
)

// policyCommands are the subcommands of turret policy.
var policyCommands = []command{
	{"check", "print what is wrong in policies; exit status 1 if anything is", checkPolicies},
	{"explain", "print what a policy says of methods, and why", explainPolicy},
	{"diff", "print what becomes of each block when one policy takes the place of another; exit status 1 if anything changes", diffPolicies},
	{"import", "print the policy that a gRPC service config in JSON stands for", importConfig},
}

func runPolicy(ctx context.Context, s streams, args []string) error {
	return dispatch(ctx, s, "turret policy", policyCommands, args)
}

// policyFlags are the flags of turret policy's commands.
type policyFlags struct {
	*flag.FlagSet

	descriptors string
	gets        bool
	strict      bool
	format      string
}

// policyFlagSet returns the flags of a command, whose arguments usage names.
func policyFlagSet(s streams, name, usage string) *policyFlags {
	f := &policyFlags{FlagSet: flag.NewFlagSet("turret policy "+name, flag.ContinueOnError)}
	f.SetOutput(s.err)
	f.StringVar(&f.descriptors, "descriptors", "", "`file` with a google.protobuf.FileDescriptorSet, as `buf build -o` or `protoc --include_imports -o` write it: the methods that there are. Without it names of methods are not checked")
	f.BoolVar(&f.gets, "gets", false, "take methods that google.api.http binds to GET for free of side effects")
	f.StringVar(&f.format, "format", "text", "text, json, or for check also github: annotations of a GitHub workflow")
	f.Usage = func() {
		fmt.Fprintf(s.err, "usage: turret policy %s [flags] %s\n", name, usage)
		f.PrintDefaults()
	}
	return f
}

// parse parses args, of which there must be from least to most (-1: any number)
// besides flags.
func (f *policyFlags) parse(args []string, formats string, least, most int) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // the flag set has said it
	}
	ok := f.format == "text" || f.format == "json" || formats == "github" && f.format == "github"
	if !ok {
		fmt.Fprintf(f.Output(), "-format is %q, must be text, json%s\n", f.format, map[bool]string{true: " or github"}[formats == "github"])
		return errUsage
	}
	if f.NArg() < least || most >= 0 && f.NArg() > most {
		f.Usage()
		return errUsage
	}
	return nil
}

// config returns what the flags say of methods.
func (f *policyFlags) config() (c policy.Config, err error) {
	if f.gets {
		c.Idempotency = policy.Gets
	}
	if f.descriptors == "" {
		c.UnknownMethods = true
		return c, nil
	}
	data, err := os.ReadFile(f.descriptors)
	if err != nil {
		return c, fmt.Errorf("-descriptors: %w", err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(data, set); err != nil {
		return c, fmt.Errorf("-descriptors: %s is no FileDescriptorSet: %w", f.descriptors, err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return c, fmt.Errorf("-descriptors: %s: %w", f.descriptors, err)
	}
	c.Methods = policy.InFiles(files)
	return c, nil
}

// load compiles a policy. What is wrong with it is a policy.Errors.
func load(name string, c policy.Config) (*policy.Policy, error) {
	document, err := policyfile.Load(name)
	if err != nil {
		return nil, err
	}
	return policy.New(document, c)
}

// A checked is what was found in a file, for JSON.
type checked struct {
	File     string        `json:"file"`
	Errors   policy.Errors `json:"errors"`
	Warnings policy.Errors `json:"warnings"`
}

func checkPolicies(_ context.Context, s streams, args []string) error {
	f := policyFlagSet(s, "check", "FILE...")
	f.BoolVar(&f.strict, "strict", false, "take warnings for errors")
	if err := f.parse(args, "github", 1, -1); err != nil {
		return err
	}
	c, err := f.config()
	if err != nil {
		return err
	}
	all, found := make([]checked, 0, f.NArg()), false
	for _, name := range f.Args() {
		one := checked{File: name, Errors: policy.Errors{}, Warnings: policy.Errors{}}
		p, err := load(name, c)
		if errs, ok := errors.AsType[policy.Errors](err); ok {
			one.Errors = errs
		} else if err != nil {
			return err
		} else {
			one.Warnings = append(one.Warnings, p.Warnings()...)
		}
		found = found || len(one.Errors) > 0 || f.strict && len(one.Warnings) > 0
		all = append(all, one)
	}
	if err := printChecked(s, f.format, all); err != nil {
		return err
	}
	if found {
		return errFound
	}
	return nil
}

func printChecked(s streams, format string, all []checked) error {
	if format == "json" {
		return printJSON(s, all)
	}
	for _, one := range all {
		for _, p := range one.Errors {
			printProblem(s, format, "error", p)
		}
		for _, p := range one.Warnings {
			printProblem(s, format, "warning", p)
		}
	}
	return nil
}

func printProblem(s streams, format, kind string, p *policy.Problem) {
	switch {
	case format == "github":
		fmt.Fprintln(s.out, annotation(kind, p))
	case kind == "warning":
		fmt.Fprintf(s.out, "warning: %v\n", p)
	default:
		fmt.Fprintln(s.out, p)
	}
}

func printJSON(s streams, v any) error {
	encoder := json.NewEncoder(s.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

func explainPolicy(_ context.Context, s streams, args []string) error {
	f := policyFlagSet(s, "explain", "FILE METHOD...")
	if err := f.parse(args, "", 2, -1); err != nil {
		return err
	}
	c, err := f.config()
	if err != nil {
		return err
	}
	p, err := load(f.Arg(0), c)
	if err != nil {
		return wrong(s, f.format, f.Arg(0), err)
	}
	all := make([]policy.Explanation, 0, f.NArg()-1)
	for _, method := range f.Args()[1:] {
		all = append(all, p.Explain(method))
	}
	if f.format == "json" {
		return printJSON(s, all)
	}
	for _, e := range all {
		fmt.Fprintln(s.out, e)
	}
	return nil
}

// wrong prints what is wrong with a policy, or returns err if it is not that.
func wrong(s streams, format, file string, err error) error {
	errs, ok := errors.AsType[policy.Errors](err)
	if !ok {
		return err
	}
	if err := printChecked(s, format, []checked{{File: file, Errors: errs, Warnings: policy.Errors{}}}); err != nil {
		return err
	}
	return errFound
}

func diffPolicies(_ context.Context, s streams, args []string) error {
	f := policyFlagSet(s, "diff", "OLD NEW")
	if err := f.parse(args, "", 2, 2); err != nil {
		return err
	}
	c, err := f.config()
	if err != nil {
		return err
	}
	p, err := load(f.Arg(0), c)
	if err != nil {
		return err
	}
	document, err := policyfile.Load(f.Arg(1))
	if err != nil {
		return err
	}
	changes, err := p.Diff(document)
	if err != nil {
		return err
	}
	if f.format == "json" {
		err = printJSON(s, changes)
	} else {
		_, err = fmt.Fprintln(s.out, changes)
	}
	if err == nil && len(changes.Changed) > 0 {
		return errFound
	}
	return err
}

// An imported is what became of a service config, for JSON.
type imported struct {
	Policy string               `json:"policy"` // YAML
	Notes  []serviceconfig.Note `json:"notes"`
}

func importConfig(_ context.Context, s streams, args []string) error {
	f := policyFlagSet(s, "import", "SERVICE_CONFIG")
	if err := f.parse(args, "", 1, 1); err != nil {
		return err
	}
	c, err := f.config()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(f.Arg(0))
	if err != nil {
		return err
	}
	document, notes, err := serviceconfig.Import(f.Arg(0), data)
	if err == nil && len(document.Policy.GetRules()) > 0 {
		_, err = policy.New(document, c)
	}
	if err != nil {
		return wrong(s, f.format, f.Arg(0), err)
	}
	text := string(policyfile.Format(document))
	if f.format == "json" {
		return printJSON(s, imported{text, append([]serviceconfig.Note{}, notes...)})
	}
	for _, n := range notes {
		fmt.Fprintln(s.err, "note:", n)
	}
	_, err = fmt.Fprint(s.out, text)
	return err
}
