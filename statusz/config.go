package statusz

import (
	"fmt"
	"time"

	"github.com/turret-go/turret"
)

// A Config says how much a [Page] keeps and shows. The zero Config is good for
// most processes.
type Config struct {
	// Title is the heading of the page; empty: the name of the executable.
	Title string
	// Interval is how often everything is looked at; 0: 1 s. At least 10 ms.
	Interval time.Duration
	// Keep is how far back curves reach; 0: 10 min. At least Interval and at
	// most 3,600 of it.
	Keep time.Duration
	// Endpoints is how many endpoints of one channel are listed, those that
	// matter first; 0: 100. At most 1,000.
	Endpoints int
	// Methods is how many methods are distinguished; those that come later count
	// as one, "_OTHER". 0: 200. At most 1,000.
	Methods int
	// Accept are the checks whose warnings are not shown, because what they warn of
	// is meant: "timeout-of-streams". At most 100.
	Accept []string
	// Retune are the limits that can be changed on the page, by the names that it
	// shows them under. nil: the page changes nothing. It takes POSTs of its own form
	// then, which must come from its own origin (http.CrossOriginProtection): serve it
	// to operators only. At most 100, with names of 1 to 100 bytes; none is nil.
	Retune map[string]Limit
}

// Validate returns an error, a [*turret.FieldError], if c makes no sense.
func (c Config) Validate() error {
	wrong := func(field string, value any, bound string) error {
		return &turret.FieldError{Package: "statusz", Field: field, Value: value, Bound: bound}
	}
	full := c.withDefaults()
	switch {
	case full.Interval < 10*time.Millisecond:
		return wrong("Interval", c.Interval, "at least 10ms")
	case full.Keep < full.Interval || full.Keep/3600 > full.Interval:
		return wrong("Keep", c.Keep, "between Interval and 3600 times Interval")
	case full.Endpoints < 0 || full.Endpoints > 1000:
		return wrong("Endpoints", c.Endpoints, "between 0 and 1000")
	case full.Methods < 0 || full.Methods > 1000:
		return wrong("Methods", c.Methods, "between 0 and 1000")
	case len(c.Accept) > 100:
		return wrong("Accept", len(c.Accept), "at most 100 checks")
	case len(c.Retune) > mostLimits:
		return wrong("Retune", len(c.Retune), fmt.Sprintf("at most %d limits", mostLimits))
	case len(c.Title) > 200:
		return wrong("Title", c.Title[:200], "at most 200 bytes")
	}
	for name, gate := range c.Retune {
		switch {
		case name == "" || len(name) > 100:
			return wrong("Retune", name[:min(len(name), 100)], "under names of 1 to 100 bytes")
		case gate == nil:
			return wrong("Retune["+name+"]", nil, "non-nil")
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Keep == 0 {
		c.Keep = 600 * c.Interval
	}
	if c.Endpoints == 0 {
		c.Endpoints = 100
	}
	if c.Methods == 0 {
		c.Methods = 200
	}
	return c
}
