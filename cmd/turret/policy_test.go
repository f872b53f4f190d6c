package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// directory makes a directory of policies, and goes into it.
func directory(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.yaml":   "rules:\n- {name: a, methods: [\"/turret.echo.v1.EchoService/*\"], server: {limit: {max: 1}}}\n",
		"better.yaml": "rules:\n- {name: a, methods: [\"/turret.echo.v1.EchoService/*\"], server: {limit: {max: 2}}}\n",
		"odd.yaml":    "rules:\n- {name: a, methods: [\"/turret.echo.v1.EchoService/*\"], client: {retry: {}}}\n",
		"bad.yaml":    "rules:\n- {name: a, methods: [\"/*\"], server: {limit: {max: -1}, timeout: 5}}\n",
		"wrong.yaml":  "rules:\n- {name: a, methods: [\"/*\"], server: {limit: {max: -1}}}\n",
		"typo.yaml":   "rules:\n- {name: a, methods: [\"/turret.echo.v1.EchoServise/*\"], server: {limit: {max: 1}}}\n",
		"config.json": `{"methodConfig": [{"name": [{"service": "turret.echo.v1.EchoService"}], "timeout": "1s", "maxRequestMessageBytes": 1}]}`,
		"twice.json":  `{"methodConfig": [{"name": [{"service": "a.B"}], "timeout": "1s", "timeout": "2s"}]}`,
		"empty.json":  `{}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	add(set, echov1.File_turret_echo_v1_echo_proto, map[string]bool{})
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "echo.binpb"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
}

// add adds a file and what it imports to set.
func add(set *descriptorpb.FileDescriptorSet, file protoreflect.FileDescriptor, seen map[string]bool) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		add(set, file.Imports().Get(i).FileDescriptor, seen)
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}

func TestPolicyCommands(t *testing.T) {
	directory(t)
	for _, tt := range []struct {
		args   string
		status int
		out    []string // parts of standard output
		err    []string // parts of standard error
	}{
		{"", 2, nil, []string{"usage: turret COMMAND"}},
		{"nothing", 2, nil, []string{`there is no command "nothing"`}},
		{"-h", 0, []string{"usage: turret COMMAND", "policy"}, nil},
		{"policy", 2, nil, []string{"usage: turret policy COMMAND"}},
		{"policy help", 0, []string{"check", "explain", "diff", "import"}, nil},
		{"policy check", 2, nil, []string{"usage: turret policy check [flags] FILE..."}},
		{"policy check -h", 0, nil, []string{"-descriptors"}},
		{"policy check -nothing x", 2, nil, []string{"flag provided but not defined"}},
		{"policy check -format xml good.yaml", 2, nil, []string{`-format is "xml", must be text, json or github`}},
		{"policy check good.yaml better.yaml", 0, nil, nil},
		{"policy check -descriptors echo.binpb good.yaml", 0, nil, nil},
		{"policy check bad.yaml", 1, []string{"bad.yaml:2:66: rules[0].server.timeout is 5 without a unit"}, nil},
		{"policy check wrong.yaml", 1, []string{"wrong.yaml:2:47: rules[0].server.limit.max is -1, must be at least 0 (rule \"a\")"}, nil},
		{"policy check -format github wrong.yaml", 1, []string{`::error file=wrong.yaml,line=2,col=47,title=policy::rules[0].server.limit.max is -1, must be at least 0 (rule "a")`}, nil},
		{"policy check -format json wrong.yaml", 1, []string{`"file": "wrong.yaml"`, `"line": 2`, `"path": "rules[0].server.limit.max"`, `"warnings": []`}, nil},
		{"policy check typo.yaml", 0, nil, nil},
		{"policy check -descriptors echo.binpb typo.yaml", 1, []string{"did you mean /turret.echo.v1.EchoService/*?"}, nil},
		{"policy check -descriptors good.yaml typo.yaml", 2, nil, []string{"is no FileDescriptorSet"}},
		{"policy check -descriptors missing typo.yaml", 2, nil, []string{"no such file"}},
		{"policy check missing.yaml", 2, nil, []string{"no such file"}},
		{"policy check odd.yaml", 0, []string{"warning: odd.yaml:2:"}, nil},
		{"policy check -format github odd.yaml", 0, []string{"::warning file=odd.yaml,line=2"}, nil},
		{"policy check -strict odd.yaml", 1, []string{"warning: odd.yaml:2:"}, nil},
		{"policy explain good.yaml", 2, nil, []string{"usage: turret policy explain [flags] FILE METHOD..."}},
		{"policy explain good.yaml /turret.echo.v1.EchoService/Unary /a.B/C", 0, []string{"server limit  {max: 1}  a  good.yaml:2:", "/a.B/C  not known to the program", "nothing holds"}, nil},
		{"policy explain -descriptors echo.binpb -gets good.yaml /turret.echo.v1.EchoService/Unary", 0, []string{"unary, idempotency UNKNOWN (turret/echo/v1/echo.proto)"}, nil},
		{"policy explain -format json good.yaml /turret.echo.v1.EchoService/Unary", 0, []string{`"method": "/turret.echo.v1.EchoService/Unary"`, `"value": "{max: 1}"`}, nil},
		{"policy explain wrong.yaml /a.B/C", 1, []string{"must be at least 0"}, nil},
		{"policy explain -format github wrong.yaml /a.B/C", 2, nil, []string{`must be text, json`}},
		{"policy diff good.yaml", 2, nil, []string{"usage: turret policy diff [flags] OLD NEW"}},
		{"policy diff good.yaml good.yaml", 0, []string{"kept 1"}, nil},
		{"policy diff good.yaml better.yaml", 1, []string{"retuned a server.limit: {max: 1} -> {max: 2}", "kept 0"}, nil},
		{"policy diff -format json good.yaml better.yaml", 1, []string{`"fate": "retuned"`, `"kept": 0`}, nil},
		{"policy diff good.yaml wrong.yaml", 2, nil, []string{"must be at least 0"}},
		{"policy diff wrong.yaml good.yaml", 2, nil, []string{"must be at least 0"}},
		{"policy import config.json", 0, []string{"rules:", "timeout: 1s"}, []string{"note: config.json:1:90: methodConfig[0].maxRequestMessageBytes is not part of a policy"}},
		{"policy import -format json config.json", 0, []string{`"policy": "rules:\n`, `"path": "methodConfig[0].maxRequestMessageBytes"`}, nil},
		{"policy import -descriptors echo.binpb config.json", 0, []string{"timeout: 1s"}, []string{"note:"}},
		{"policy import twice.json", 1, []string{"twice.json:1:67: methodConfig[0].timeout is given twice"}, nil},
		{"policy import empty.json", 0, []string{"rules:"}, []string{"there is nothing to carry over"}},
		{"policy import missing.json", 2, nil, []string{"no such file"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out, err strings.Builder
			status := run(t.Context(), streams{&out, &err}, strings.Fields(tt.args))
			if status != tt.status {
				t.Errorf("the exit status is %d, want %d", status, tt.status)
			}
			contains(t, "standard output", out.String(), tt.out)
			contains(t, "standard error", err.String(), tt.err)
		})
	}
}

// contains checks that text has all parts; nothing must be there if there are none.
func contains(t *testing.T, what, text string, parts []string) {
	t.Helper()
	if len(parts) == 0 && text != "" {
		t.Errorf("%s is %q, want nothing", what, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s is %q, want %q in it", what, text, part)
		}
	}
}
