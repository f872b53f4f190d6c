package turret

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// A Describer says what it is and what it counts: a gate, a budget, a layer, a
// stack, a balancer. [Describe] asks it, and pages, metrics and terminals show
// what it answers. No call pays for it.
//
// Describe fills in d. It may be called at any time, concurrently with
// everything else. It should return soon and must not wait for calls; state is
// copied under the lock that guards it and described outside of it. d must not
// be kept, and belongs to one goroutine.
//
//	func (g *gate) Describe(d *turret.Description) {
//		d.Is("gate", "turnstile")
//		d.Gauge("in_flight", "{call}", float64(g.inside.Load()))
//		d.Count("entered", "{call}", "", g.entered.Load())
//	}
type Describer interface{ Describe(d *Description) }

// A Node is what a [Describer] said of itself, and what is inside it. Its JSON
// form is stable: fields are added, not renamed.
type Node struct {
	// Kind is one word for what it is, the same for all of its kind: "limit".
	// Of something that is no Describer it is the Go type.
	Kind string `json:"kind"`
	// Name tells it from others of its kind; empty if it was given none.
	Name string `json:"name,omitempty"`
	// Title is a line for people: "timeout 2s".
	Title string `json:"title,omitempty"`
	// Figures are its settings, gauges, counters and states, in its own order.
	Figures []Figure `json:"figures,omitempty"`
	// Children are what is inside it: the layers of a stack, outermost first, or
	// the endpoints of a balancer, those that matter first.
	Children []Node `json:"children,omitempty"`
	// More is how many children are not listed.
	More int `json:"more,omitempty"`
	// Again says that the same gate, budget or the like is described by another
	// node of the tree too, which comes before this one: on a higher level, or on
	// this one and earlier. Both have the figures; a sum must take one of them.
	Again bool `json:"again,omitempty"`
}

// A Figure is one thing that a [Node] tells. Name, Unit, Reason and Kind of a
// figure are always the same, so that they can name a metric.
type Figure struct {
	// Name is in lower case with underscores: "in_flight".
	Name string `json:"name"`
	// Kind says how Value changes, and whether there is one.
	Kind FigureKind `json:"kind"`
	// Unit is a UCUM unit: "s", "1", "{call}"; empty of a State, and of a
	// Setting that is no number.
	Unit string `json:"unit,omitempty"`
	// Reason tells counters of one name apart: "LIMIT_FULL" of "refused".
	Reason string `json:"reason,omitempty"`
	// Value is the number. A number that JSON cannot write (infinite, NaN) is 0
	// with its name in Text.
	Value float64 `json:"value"`
	// Text is the word of a State, and a Setting as people write it: "2s".
	Text string `json:"text,omitempty"`
}

// A FigureKind says what sort of thing a [Figure] is.
type FigureKind uint8

// The kinds of figure. The zero FigureKind is none of them.
const (
	Setting FigureKind = iota + 1 // was chosen by configuration
	Gauge                         // goes up and down
	Counter                       // only ever goes up, from 0 when it was made
	State                         // is a word
)

// String returns the name of k in lower case.
func (k FigureKind) String() string {
	switch k {
	case Setting:
		return "setting"
	case Gauge:
		return "gauge"
	case Counter:
		return "counter"
	case State:
		return "state"
	default:
		return fmt.Sprintf("FigureKind(%d)", uint8(k))
	}
}

// MarshalText returns what String does, for JSON. It never fails; an unknown
// kind is FigureKind(9).
func (k FigureKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets k to the kind that MarshalText writes as text. It fails for
// a text that names none of the kinds.
func (k *FigureKind) UnmarshalText(text []byte) error {
	for kind := Setting; kind <= State; kind++ {
		if string(text) == kind.String() {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("turret: figure kind is %.40q, must be setting, gauge, counter or state", text)
}

// A Description collects what a [Describer] says of itself. It is made by
// [Describe], is used by one goroutine, and is not valid after the Describer has
// returned.
//
// It is bounded: it keeps the first 256 figures, the first 1,000 children or
// as many as [Description.Most] asks for, and the first 1,024 bytes of each
// text. What is left out is counted in Node.More, or said in a State "description".
type Description struct {
	node     Node // without children
	children []any
	most     int
	forwards int
	omitted  int   // figures
	layers   []any // of Chain, used again
	source   any   // what was asked last: in the end what has the figures, without its wrappers
}

// Is says what is described: kind is a word that all of its kind have in common
// ("limit"), title a line for people that may hold settings ("timeout 2s"). The
// first call holds, so a wrapper may speak before it forwards.
func (d *Description) Is(kind, title string) {
	if d.node.Kind == "" {
		d.node.Kind, d.node.Title = clip(kind), clip(title)
	}
}

// Named gives the node a name. The first one that is not empty holds: of several
// names around one layer the outermost.
func (d *Description) Named(name string) {
	if d.node.Name == "" {
		d.node.Name = clip(name)
	}
}

// Setting adds something that was configured. A number of any type is the value;
// a time.Duration is one in seconds, whatever unit says, and its text is the
// duration's. Of anything else, and of a number that has a String method,
// fmt.Sprint(v) is the text.
func (d *Description) Setting(name, unit string, v any) {
	f := Figure{Name: name, Kind: Setting, Unit: unit}
	r := reflect.ValueOf(v)
	_, prints := v.(fmt.Stringer)
	switch took, ok := v.(time.Duration); {
	case ok:
		f.Unit, f.Value, f.Text = "s", took.Seconds(), took.String()
	case prints || !r.IsValid():
		f.Text = fmt.Sprint(v)
	case r.CanInt():
		f.Value = float64(r.Int())
	case r.CanUint():
		f.Value = float64(r.Uint())
	case r.CanFloat():
		f.Value = r.Float()
	default:
		f.Text = fmt.Sprint(v)
	}
	d.add(f)
}

// Gauge adds a number that goes up and down.
func (d *Description) Gauge(name, unit string, v float64) {
	d.add(Figure{Name: name, Kind: Gauge, Unit: unit, Value: v})
}

// Count adds a counter: how often something has happened since it was made.
// reason tells counters of the same name apart; it is empty where there is one.
func (d *Description) Count(name, unit, reason string, n uint64) {
	d.add(Figure{Name: name, Kind: Counter, Unit: unit, Reason: reason, Value: float64(n)})
}

// Total adds a counter that sums up what need not be whole: seconds. It must not
// go down.
func (d *Description) Total(name, unit, reason string, v float64) {
	d.add(Figure{Name: name, Kind: Counter, Unit: unit, Reason: reason, Value: v})
}

// State adds a word: the state of a breaker, why an endpoint is banned.
func (d *Description) State(name, word string) {
	d.add(Figure{Name: name, Kind: State, Text: word})
}

// Inside adds a child, which is described on its own after the Describer has
// returned, in the order of the calls. child need not be a Describer: it is then
// shown by its type and, if it has one, its String. A nil child is left out.
func (d *Description) Inside(child any) {
	switch {
	case child == nil:
	case len(d.children) >= max(d.most, mostChildren):
		d.LeftOut(1)
	default:
		d.children = append(d.children, child)
	}
}

// Chain adds as children the layers that service consists of, outermost first,
// as [Describe] finds them. If end is not nil, the layers are those outside of
// end: a service that service passes calls on to. If it turns out not to, service
// alone is added.
func (d *Description) Chain(service, end any) {
	d.layers = chain(d.layers[:0], service)
	layers := d.layers
	if end == nil {
		layers = withoutLeaf(layers)
	} else {
		at := slices.IndexFunc(layers, func(layer any) bool { return same(layer, end) })
		layers = layers[:max(at, 1)]
	}
	for _, layer := range layers {
		d.Inside(layer)
	}
}

// Forward adds what x says of itself, as if x were asked in place of the caller:
// a wrapper that has little to say forwards to what it wraps. If x is no
// Describer, its type and String are added.
func (d *Description) Forward(x any) {
	if d.forwards++; d.forwards > mostForwards {
		d.State(aboutDescription, "forwards without end")
		return
	}
	defer func() { d.forwards-- }()
	d.source = x
	switch v := x.(type) {
	case Describer:
		v.Describe(d)
	case fmt.Stringer:
		d.Is(fmt.Sprintf("%T", x), v.String())
	default:
		d.Is(fmt.Sprintf("%T", x), "")
	}
}

// Most returns how many children a Describer with many alike (the endpoints of a
// balancer) should list: those that matter most. It says how many it did not
// list with [Description.LeftOut].
func (d *Description) Most() int { return d.most }

// LeftOut says that n children more are not listed. Negative n count as 0.
func (d *Description) LeftOut(n int) {
	if n > 0 {
		d.node.More = min(d.node.More, math.MaxInt-n) + n
	}
}

func (d *Description) add(f Figure) {
	if len(d.node.Figures) >= mostFigures {
		d.omitted++
		return
	}
	if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		f.Value, f.Text = 0, fmt.Sprint(f.Value)
	}
	f.Name, f.Unit, f.Reason, f.Text = clip(f.Name), clip(f.Unit), clip(f.Reason), clip(f.Text)
	d.node.Figures = append(d.node.Figures, f)
}

// The bounds of a description. They are far above what this module describes,
// and keep a Describer that has gone wrong from taking the process with it.
const (
	mostFigures  = 256
	mostChildren = 1000
	mostForwards = 32
	mostText     = 1024
	mostNodes    = 10_000
	mostDepth    = 32
)

// aboutDescription is the name of the State that says what is wrong with a
// description.
const aboutDescription = "description"

// clip returns the first mostText bytes of s.
func clip(s string) string {
	if len(s) <= mostText {
		return s
	}
	return s[:mostText-len("…")] + "…"
}

// chain appends the layers of service to layers, outermost first: service, then
// what is inside it, and so on.
func chain(layers []any, service any) []any {
	for service != nil && len(layers) < mostChildren {
		layers = append(layers, service)
		service = inside(service)
	}
	return layers
}

// withoutLeaf returns layers without the innermost one, unless it is the only
// one or has something to say.
func withoutLeaf(layers []any) []any {
	if len(layers) < 2 {
		return layers
	}
	leaf := layers[len(layers)-1]
	_, describes := leaf.(Describer)
	if _, prints := leaf.(fmt.Stringer); describes || prints {
		return layers
	}
	return layers[:len(layers)-1]
}

// same reports whether a and b are the same service. Types that cannot be
// compared are not.
func same(a, b any) bool {
	return a != nil && reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.ValueOf(a).Comparable() && a == b
}

// inside returns the service that a layer's service x passes calls on to: what
// its method Inner says, or else what its struct embeds under the name Service,
// as [Layer] recommends. It is nil if there is none.
func inside(x any) any {
	if v, ok := x.(interface{ Inner() any }); ok {
		return v.Inner()
	}
	v := reflect.ValueOf(x)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	f, ok := v.Type().FieldByName("Service")
	if !ok || !f.Anonymous || f.Type.Kind() != reflect.Interface || len(f.Index) != 1 {
		return nil
	}
	return v.FieldByIndex(f.Index).Interface() // nil if the field is
}
