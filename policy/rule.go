package policy

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy/internal/suggest"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// maxRules is how many rules a policy may have.
const maxRules = 10_000

// A level says how specific a pattern is, and where it is written.
type level uint8

const (
	levelAll          level = iota // "/*"
	levelProtoService              // an option of a service
	levelService                   // "/package.Service/*"
	levelProtoMethod               // an option of a method
	levelMethod                    // "/package.Service/Method"
	levels
)

func (l level) ofMethod() bool { return l == levelMethod || l == levelProtoMethod }

// A pattern says for which methods a rule holds.
type pattern struct {
	text    string
	path    string
	at      Position
	level   level
	service string
}

// A rule is a rule of a document, or what a .proto file says of a method or a
// service.
type rule struct {
	name        string // "everything", "proto:/shop.v1.Shop/*"
	path        string // "rules[0]"; "" of a .proto file
	at          Position
	why         string
	mode        policyv1.Mode
	idempotency policyv1.Idempotency
	patterns    []*pattern
	has         map[string]bool // the texts of patterns
	blocks      []*block
	fromProto   bool
	position    func(path string) Position
}

func (r *rule) enforced() bool {
	return r.mode == policyv1.Mode_MODE_UNSPECIFIED || r.mode == policyv1.Mode_MODE_ENFORCE
}

func (r *rule) shadow() bool { return r.mode == policyv1.Mode_MODE_SHADOW }

// hasBlock reports whether r has a block of that kind that is not off.
func (r *rule) hasBlock(k *blockKind) bool {
	return slices.ContainsFunc(r.blocks, func(b *block) bool { return b.kind == k && !b.off })
}

// A reader makes rules of a document and of .proto files, and collects what is
// wrong with them.
type reader struct {
	document  Document
	catalogue *Catalogue
	unknown   bool // methods that the catalogue does not have are allowed
	suggested int  // how many names were looked for that are like an unknown one
	errs      Errors
}

// maxProblems is how many problems there must be for the rest of the rules not to be
// read.
const maxProblems = 1_000

// maxSuggested bounds the names that are looked for: each takes time in
// proportion to the number of methods.
const maxSuggested = 50

func (d *reader) closest(word string, words iter.Seq[string]) string {
	if d.suggested++; d.suggested > maxSuggested {
		return ""
	}
	return suggest.Closest(word, words)
}

// problem adds an error. rule may be nil.
func (d *reader) problem(r *rule, at Position, path, format string, args ...any) {
	p := &Problem{At: at, Path: path, Text: fmt.Sprintf(format, args...)}
	if r != nil {
		p.Rule = r.name
	}
	d.errs = append(d.errs, p)
}

// rules returns the rules of the document, and then those of the .proto files.
func (d *reader) rules() []*rule {
	given := d.document.Policy.GetRules()
	switch n := len(given); {
	case n == 0:
		d.problem(nil, d.document.position("rules"), "rules", "is empty, must have at least one rule")
	case n > maxRules:
		d.problem(nil, d.document.position("rules"), "rules", "has %d rules, must have at most %d", n, maxRules)
		return nil
	}
	all := make([]*rule, 0, len(given)+len(d.catalogue.options))
	names := map[string]*rule{}
	for i, given := range given {
		if len(d.errs) >= maxProblems {
			return all
		}
		r := d.rule(i, given)
		if first, twice := names[r.name]; twice && r.name != "" {
			d.problem(nil, d.document.position(r.path+".name"), r.path+".name", "is %q, and so is that of %s (%v): names must be unique", r.name, first.path, first.at)
		} else {
			names[r.name] = r
		}
		all = append(all, r)
	}
	for _, o := range d.catalogue.options {
		all = append(all, d.ofProto(o))
	}
	return all
}

// ruleName is what a rule may be called.
var ruleName = regexp.MustCompile(`^[a-z][-a-z0-9_.]{0,62}$`)

func (d *reader) rule(i int, given *policyv1.Rule) *rule {
	path := "rules[" + strconv.Itoa(i) + "]"
	r := &rule{
		name: given.GetName(), path: path, at: d.document.position(path), why: given.GetWhy(),
		mode: given.GetMode(), idempotency: given.GetIdempotency(), position: d.document.position,
	}
	switch {
	case r.name == "":
		d.problem(nil, r.at, path+".name", "is missing, must be given")
	case !ruleName.MatchString(r.name):
		d.problem(nil, d.document.position(path+".name"), path+".name", "is %q, must be 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter", shortened(r.name))
	}
	d.patterns(r, given.GetMethods())
	d.addBlocks(r, interceptors.SideClient, given.GetClient().ProtoReflect())
	d.addBlocks(r, interceptors.SideServer, given.GetServer().ProtoReflect())
	if len(r.blocks) == 0 && r.idempotency == policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED {
		d.problem(r, r.at, path, "says nothing, must have idempotency, or a block in client or server")
	}
	if r.shadow() {
		d.checkShadow(r)
	}
	return r
}

func shortened(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

func (d *reader) checkShadow(r *rule) {
	if r.idempotency != policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED {
		path := r.path + ".idempotency"
		d.problem(r, d.document.position(path), path, "is in a rule whose mode is SHADOW, must not be")
	}
	for _, b := range r.blocks {
		switch {
		case b.kind.unshadowed:
			d.problem(r, b.at, b.path, "is in a rule whose mode is SHADOW, must not be: it cannot be counted without doing it")
		case b.off:
			d.problem(r, b.at, b.path, "is off in a rule whose mode is SHADOW, must not be: there is nothing to count")
		}
	}
}

// addBlocks adds the blocks of one side.
func (d *reader) addBlocks(r *rule, side interceptors.Side, m protoreflect.Message) {
	if !m.IsValid() {
		return
	}
	for _, k := range order[side] {
		if m.Has(k.field) {
			b := newBlock(r, k, m.Get(k.field))
			d.checkBlock(b)
			r.blocks = append(r.blocks, b)
		}
	}
}

func (d *reader) ofProto(o option) *rule {
	r := &rule{
		name: "proto:" + strings.TrimSuffix(o.pattern, "/*"), at: o.at, fromProto: true,
		position: func(string) Position { return o.at },
	}
	p := &pattern{text: o.pattern, at: o.at, level: levelProtoMethod, service: serviceOf(o.pattern)}
	r.path = "option (turret.policy.v1.method)"
	if strings.HasSuffix(o.pattern, "/*") {
		p.level = levelProtoService
		r.path = "option (turret.policy.v1.service)"
	}
	r.patterns, r.has = []*pattern{p}, map[string]bool{p.text: true}
	d.addBlocks(r, interceptors.SideClient, o.options.GetClient().ProtoReflect())
	d.addBlocks(r, interceptors.SideServer, o.options.GetServer().ProtoReflect())
	return r
}

func (d *reader) patterns(r *rule, given []string) {
	if len(given) == 0 {
		d.problem(r, r.at, r.path+".methods", "is missing, must have at least one pattern: \"/package.Service/Method\", \"/package.Service/*\" or \"/*\"")
	}
	r.has = make(map[string]bool, len(given))
	for i, text := range given {
		if len(d.errs) >= maxProblems {
			return
		}
		path := fmt.Sprintf("%s.methods[%d]", r.path, i)
		p := &pattern{text: text, path: path, at: d.document.position(path)}
		if r.has[text] {
			d.problem(r, p.at, path, "is %q, which the rule has twice, must be given once", shortened(text))
			continue
		}
		r.has[text] = true
		if d.checkPattern(r, p) {
			r.patterns = append(r.patterns, p)
		}
	}
}

// checkPattern fills in p, and reports whether it is one.
func (d *reader) checkPattern(r *rule, p *pattern) bool {
	if p.text == "/*" {
		return true
	}
	service, method, ok := splitPattern(p.text)
	if !ok {
		d.problem(r, p.at, p.path, "is %q, must be \"/package.Service/Method\", \"/package.Service/*\" or \"/*\"%s", shortened(p.text), d.patternHint(p.text))
		return false
	}
	p.service, p.level = service, levelMethod
	if method == "*" {
		p.level = levelService
	}
	if d.unknown {
		return true
	}
	methods, known := d.catalogue.services[service]
	switch {
	case !known:
		d.problem(r, p.at, p.path, "is %q, but the program knows no service %s%s", shortened(p.text), shortened(service), hint("/"+d.closest(service, maps.Keys(d.catalogue.services))+"/"+method))
	case p.level == levelMethod && d.catalogue.byName[p.text] == nil:
		d.problem(r, p.at, p.path, "is %q, but service %s has no such method%s", shortened(p.text), service, hint(d.closest(p.text, namesOf(methods))))
	}
	return true
}

func namesOf(methods []*Method) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range methods {
			if !yield(m.Name) {
				return
			}
		}
	}
}

func hint(meant string) string {
	if meant == "" || strings.HasPrefix(meant, "//") {
		return ""
	}
	return " (did you mean " + meant + "?)"
}

// splitPattern splits "/package.Service/Method" and "/package.Service/*".
func splitPattern(text string) (service, method string, ok bool) {
	if strings.Count(text, "/") != 2 || text[0] != '/' {
		return "", "", false
	}
	service, method, _ = strings.Cut(text[1:], "/")
	ok = isName(service, ".") && (method == "*" || isName(method, ""))
	return service, method, ok
}

// isName reports whether s is a name as .proto files have them, with separators.
func isName(s, separators string) bool {
	if s == "" {
		return false
	}
	for _, r := range s {
		letter := r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && !strings.ContainsRune(separators, r) {
			return false
		}
	}
	return true
}

// patternHint proposes the pattern that text was probably meant to be.
func (d *reader) patternHint(text string) string {
	trimmed := strings.Trim(text, " \t/")
	switch {
	case trimmed == "*" || trimmed == "":
		return hint("/*")
	case strings.Count(trimmed, "/") == 0 && strings.Contains(trimmed, "."):
		if _, known := d.catalogue.services[trimmed]; known {
			return hint("/" + trimmed + "/*")
		}
		if i := strings.LastIndexByte(trimmed, '.'); i > 0 {
			fixed := "/" + trimmed[:i] + "/" + trimmed[i+1:]
			if _, _, ok := splitPattern(fixed); ok {
				return hint(fixed)
			}
		}
	case strings.Count(trimmed, "/") == 1:
		if _, _, ok := splitPattern("/" + trimmed); ok {
			return hint("/" + trimmed)
		}
	}
	return ""
}
