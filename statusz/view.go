package statusz

import "time"

// A View is what a page shows, at one look. Its JSON form, which the page serves
// for "?format=json", is stable: fields are added, not renamed.
type View struct {
	Title   string    `json:"title"`
	Process string    `json:"process"` // the process ID and the version of Go
	When    time.Time `json:"when"`
	Up      float64   `json:"up_seconds"` // since the Page was made

	// Findings are what is wrong now, the worst first. Quiet processes have none.
	Findings []Finding `json:"findings"`
	// MoreFindings is how many are not listed.
	MoreFindings int `json:"more_findings,omitempty"`
	// Warnings are likely mistakes in how stacks are built, from
	// interceptors.Stack.Lint, and what layers report when RPCs come. They do not
	// change by themselves, so they do not count as findings.
	Warnings []Warning `json:"warnings"`
	// MoreWarnings is how many are not listed.
	MoreWarnings int `json:"more_warnings,omitempty"`
	// Totals are six figures of the process.
	Totals []Total `json:"totals"`
	// Limits are those that can be changed on the page.
	Limits []LimitSetting `json:"limits,omitempty"`
	// Stacks are the stacks and other Describers that were added.
	Stacks   []Part    `json:"stacks"`
	Channels []Channel `json:"channels"`
	// Events are what layers count: refusals, retries, timeouts.
	Events []Event `json:"events"`
	// Changes are bans, returns and the states of breakers, the newest first.
	Changes []Change `json:"changes"`
	Methods []Method `json:"methods"`
	// MoreMethods is how many methods are not listed.
	MoreMethods int `json:"more_methods,omitempty"`
}

// A Finding is something that is wrong now.
type Finding struct {
	Where string `json:"where"` // a stack and layer, or an endpoint
	What  string `json:"what"`  // "is full: 24 of 24 in flight"
	Turn  string `json:"turn"`  // what to do about it
	rank  int
}

// A Warning is a likely mistake in a stack.
type Warning struct {
	Where string `json:"where"` // a stack and layer
	What  string `json:"what"`
	Turn  string `json:"turn"`  // what to do about it
	Check string `json:"check"` // "limit-outside-retry"
}

// A Total is a figure of the whole process.
type Total struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit,omitempty"` // "/s", "%"
	Value float64 `json:"value"`
	curve *series
}

// A Part is a node of a stack.
type Part struct {
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	Title string `json:"title,omitempty"`
	// State is the word of what has states: "open".
	State string `json:"state,omitempty"`
	// Used of Max is what the bar shows; Max is 0 where there is no bar.
	Used float64 `json:"used,omitempty"`
	Max  float64 `json:"max,omitempty"`
	// Notes are what it counts, Refusals what it turned away, in words.
	Notes    []string `json:"notes,omitempty"`
	Refusals []string `json:"refusals,omitempty"`
	// Refused is how many calls it turns away per second now.
	Refused  float64 `json:"refused_per_second,omitempty"`
	Children []Part  `json:"children,omitempty"`
	More     int     `json:"more,omitempty"` // children that are not listed
	curve    *series
}

// A Channel is a balancer and its endpoints.
type Channel struct {
	Name      string     `json:"name"`
	Title     string     `json:"title"`
	InUse     int        `json:"in_use"`
	Known     int        `json:"known"` // endpoints in all
	Bans      float64    `json:"bans"`
	Endpoints []Endpoint `json:"endpoints"`
	More      int        `json:"more,omitempty"` // endpoints that are not listed
}

// An Endpoint is one server of a channel.
type Endpoint struct {
	Name     string  `json:"name"`
	State    string  `json:"state"`
	Why      string  `json:"why,omitempty"`
	Share    float64 `json:"share"` // of the calls of the channel, 0 to 1
	Calls    float64 `json:"calls_per_second"`
	Failed   float64 `json:"failed_per_second"`
	InFlight float64 `json:"in_flight"`
	Latency  float64 `json:"latency_seconds"` // expected; 0 if not known
	Bans     float64 `json:"bans"`
	curve    *series
}

// An Event is something that a layer does to calls, by reason.
type Event struct {
	What       string  `json:"what"`  // "refused", "retry", "hedge", "timeout", "panic", "fault"
	Layer      string  `json:"layer"` // the stack and the layer
	Reason     string  `json:"reason,omitempty"`
	Rate       float64 `json:"per_second"`
	LastMinute float64 `json:"last_minute"`
	Ever       float64 `json:"ever"`
	// Last is the last one that a [Page.Layer] saw; its Method is empty if none
	// did.
	Last  Sample `json:"last,omitzero"`
	curve *series
}

// A Sample is a call that something happened to.
type Sample struct {
	When   time.Time `json:"when,omitzero"`
	Side   string    `json:"side"`
	Method string    `json:"method"`
}

// A Change is a change of state.
type Change struct {
	When  time.Time `json:"when"`
	Where string    `json:"where"`
	What  string    `json:"what"`
	Why   string    `json:"why,omitempty"`
	Bad   bool      `json:"bad"`
}

// A Method is what a [Page.Layer] saw of one method.
type Method struct {
	Side     string  `json:"side"`
	Kind     string  `json:"kind"`
	Method   string  `json:"method"`
	Rate     float64 `json:"per_second"`
	Failed   float64 `json:"failed"` // the share of the last minute, 0 to 1
	InFlight int64   `json:"in_flight"`
	// P50 and P99 are since the start, in seconds, to 19 %; 0 without calls.
	P50   float64           `json:"p50_seconds"`
	P99   float64           `json:"p99_seconds"`
	Calls uint64            `json:"calls"`
	Codes map[string]uint64 `json:"codes,omitempty"` // those that are not OK
	curve *series
}
