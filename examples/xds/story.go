package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// story is what the program shows. It is an error if something is not as it should
// be.
func (f *fleet) story(ctx context.Context) error {
	fmt.Fprintf(f.out, "%-34s %6s %6s %6s %6s %6s\n", "calls answered by", "a1 (3)", "a2 (1)", "b1", "b2", "failed")
	if err := f.changes(ctx); err != nil {
		return err
	}
	if err := f.mistake(ctx); err != nil {
		return err
	}
	if err := f.sickness(ctx); err != nil {
		return err
	}
	fmt.Fprintln(f.out, "\nserver a1:", f.servers[0].alarm)
	return nil
}

// changes sends two configurations.
func (f *fleet) changes(ctx context.Context) error {
	if err := f.accept(ctx, base()); err != nil {
		return err
	}
	// It is not at once so if it took long to connect.
	s, err := f.until(ctx, "zone a has priority", func(s sample) bool { return s.zone(2) == 0 })
	if err != nil {
		return err
	}
	if s.failed > 0 {
		return fmt.Errorf("no call should have failed: %+v", s)
	}
	changed := base()
	changed["choices"], changed["slowStart"] = 3, "1s"
	if err := f.accept(ctx, changed); err != nil {
		return err
	}
	if s := f.call(ctx, "choices: 3, slowStart: 1s"); s.zone(0) == 0 || s.failed > 0 {
		return fmt.Errorf("a change should fail no call: %+v", s)
	}
	return nil
}

// mistake sends a configuration that is wrong: the client refuses it with the text of
// Config.Validate, and goes on with the last one.
func (f *fleet) mistake(ctx context.Context) error {
	wrong := base()
	wrong["choices"] = 1
	refused, err := f.send(ctx, wrong)
	if err != nil {
		return err
	}
	if refused == "" {
		return errors.New("the client has taken choices: 1")
	}
	// gRPC puts the whole configuration before it.
	if i := strings.LastIndex(refused, "balance: "); i >= 0 {
		refused = refused[i:]
	}
	fmt.Fprintf(f.out, "choices: 1 is refused:\n    %s\n", refused)
	if s := f.call(ctx, "with the configuration before"); s.zone(0) == 0 || s.failed > 0 {
		return fmt.Errorf("a refused configuration should fail no call: %+v", s)
	}
	return f.accept(ctx, base())
}

// sickness has the servers of zone a answer UNAVAILABLE, and then be well again. They
// are connected all the time: without onBanned "fail_over" zone b would not be used.
func (f *fleet) sickness(ctx context.Context) error {
	for _, s := range f.servers[:2] {
		s.sick.Store(true)
	}
	if _, err := f.until(ctx, "zone a answers UNAVAILABLE", func(s sample) bool { return s.zone(2) >= s.all()/2 }); err != nil {
		return err
	}
	f.findings(ctx)
	for _, s := range f.servers[:2] {
		s.sick.Store(false)
	}
	_, err := f.until(ctx, "zone a is well again", func(s sample) bool { return s.zone(0) >= s.all()/2 })
	return err
}

// until makes calls until what became of the last ones is as it should be.
func (f *fleet) until(ctx context.Context, what string, right func(sample) bool) (sample, error) {
	for {
		s := f.call(ctx, what)
		if right(s) {
			return s, nil
		}
		if ctx.Err() != nil {
			return s, fmt.Errorf("%s: %+v: %w", what, s, ctx.Err())
		}
	}
}
