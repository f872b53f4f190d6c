package balance

import "testing"

// An ambush is a tracker that bans the endpoint as the better one of two is looked
// for: after its standing was asked for and before it is entered.
type ambush struct {
	tracker

	e    *endpoint
	asks *int // of all endpoints
}

func (a ambush) Load(now int64) float64 {
	if *a.asks++; *a.asks%2 == 1 { // the first one of two, which wins a tie
		a.e.pool.ban(now, a.e, &a.e.failures)
	}
	return 0
}

// A call for which the endpoint that it chose was banned in that moment, and the
// next one too, goes to one that is left.
func TestBannedWhileChosen(t *testing.T) {
	var p pool
	p.init(func(string) {}, func() { t.Error("sent to one that is banned") })
	s := &snapshot{config: newSettings(Config{OnBanned: Refuse}.withDefaults())}
	asks := 0
	for i := range 4 {
		e := newEndpoint(&p, s.config)
		s.choices = append(s.choices, choice{e, ambush{e.tracker, e, &asks}, i})
	}
	p.count(len(s.choices))
	if _, _, err := s.choose(0, nil); err != nil || p.outOfUse() != 2 {
		t.Errorf("%v with %d of 4 banned, want 2 and no error", err, p.outOfUse())
	}
}
