package interceptors

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/boundedmap"
	"github.com/turret-go/turret/internal/misuse"
)

// Defaults and bounds of [LogConfig].
const (
	defaultLogEvery = 10 * time.Second
	defaultLogMost  = 100
	minLogEvery     = 10 * time.Millisecond
	maxLogMost      = 10_000
)

// A LogConfig says how much [Log] writes. The zero value is the default.
type LogConfig struct {
	// Every is how often there is a line, at most, about events of the same
	// kind, layer and reason. 0 means 10 s; at least 10 ms.
	Every time.Duration
	// Most is how many combinations of kind, layer and reason have lines of
	// their own. Those that come later share a line for each kind, with neither
	// layer nor reason. 0 means 100; at most 10,000.
	Most int
}

// Validate returns a [*turret.FieldError] if a field is out of its bounds.
func (c LogConfig) Validate() error {
	switch {
	case c.Every != 0 && c.Every < minLogEvery:
		return &turret.FieldError{Package: "interceptors", Field: "Every", Value: c.Every, Bound: "at least 10ms, or 0 for 10s"}
	case c.Most < 0 || c.Most > maxLogMost:
		return &turret.FieldError{Package: "interceptors", Field: "Most", Value: c.Most, Bound: "between 0 (for 100) and 10000"}
	}
	return nil
}

// Log returns a function for [Observe] that writes events to l, sampled, so that
// an overload costs a few lines and not millions. The first event of each kind,
// layer and reason is written at once. While more follow, there is one line every
// c.Every. Its count says how many events it stands for, itself included, so no
// event is lost: the counts add up to the number of events.
//
// Refusals, timeouts and warnings have the level WARN, panics ERROR, retries INFO
// and hedges DEBUG. Ends are not logged. An event whose level l does not have
// enabled is neither written nor counted. A line has the count and the event
// ([Event.LogValue]) of the first RPC that it stands for.
//
// A function that Log returned may be used by several Observe layers. It may be
// called concurrently, and calls l's handler with no lock held, on the goroutine
// of an RPC or of a timer. Log panics if l is nil, and with the error of
// c.Validate if there is one.
func Log(l *slog.Logger, c LogConfig) func(ctx context.Context, e Event) {
	if l == nil {
		misused("Log", "logger", nil, "non-nil")
	}
	misuse.Check("interceptors: Log", c.Validate())
	s := &logSampler{logger: l, every: cmp.Or(c.Every, defaultLogEvery)}
	s.lines.Max = cmp.Or(c.Most, defaultLogMost)
	for i := range s.others {
		s.others[i].sampler = s
	}
	return s.event
}

// A logSampler decides which events become lines.
type logSampler struct {
	logger *slog.Logger
	every  time.Duration
	lines  boundedmap.Map[logKey, *logLine]
	others [EventEnd + 8]logLine // by kind, of the keys that found lines full
}

// A logKey is what events that share a line have in common.
type logKey struct {
	kind          EventKind
	layer, reason string
}

// event is the function that Log returns. Events of a level that is not enabled cost one
// question to the handler.
func (s *logSampler) event(ctx context.Context, e Event) {
	level, wanted := logLevel(e.Kind)
	if !wanted || !s.logger.Enabled(ctx, level) {
		return
	}
	line := s.lineOf(logKey{e.Kind, e.Layer, e.Reason})
	if line.first(&e) {
		s.write(ctx, e, 1)
	}
}

// lineOf returns the line of k.
// Where the lines are full, events of k are counted with all others of its kind. The
// map never holds more than Max, however many goroutines add at once.
func (s *logSampler) lineOf(k logKey) *logLine {
	if line, ok := s.lines.Load(k); ok {
		return line
	}
	// Get alone would make a line that nothing holds, and its timer, for each event of a
	// key that comes too late.
	if s.lines.Len() < s.lines.Max {
		s.lines.Get(k, func(logKey) *logLine { return &logLine{sampler: s} })
	}
	if line, ok := s.lines.Load(k); ok {
		return line
	}
	return &s.others[min(int(k.kind), len(s.others)-1)]
}

// write writes one line, with no lock held: handlers block, and may log.
func (s *logSampler) write(ctx context.Context, e Event, count int) {
	level, _ := logLevel(e.Kind)
	s.logger.LogAttrs(ctx, level, logText(e.Kind), slog.Int("count", count), slog.Any("event", e))
}

// A logLine is the events of one key. Its timer runs from a line that was
// written until a time of s.every in which nothing happened.
type logLine struct {
	sampler *logSampler

	// mu guards what follows. It is held for a few instructions only.
	mu     sync.Mutex
	quiet  bool // a line was written, and the timer runs
	count  int  // events since
	sample Event
	timer  *time.Timer
}

// first counts e, or reports that it is to be written at once.
func (l *logLine) first(e *Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet {
		if l.count == 0 {
			l.sample = sampleOf(e)
		}
		l.count++
		return false
	}
	l.quiet = true
	if l.timer == nil {
		l.timer = time.AfterFunc(l.sampler.every, l.over)
	} else {
		l.timer.Reset(l.sampler.every)
	}
	return true
}

// over is the goroutine of the timer: it writes what was counted.
// Without an event since the last line the timer stops, and the next event is written
// at once.
func (l *logLine) over() {
	l.mu.Lock()
	count, sample := l.count, l.sample
	l.count, l.sample = 0, Event{}
	l.quiet = count > 0
	if l.quiet {
		l.timer.Reset(l.sampler.every)
	}
	l.mu.Unlock()
	if count > 0 {
		l.sampler.write(context.Background(), sample, count)
	}
}

// sampleOf returns e for later: without the request, and what belongs to the RPC.
func sampleOf(e *Event) Event {
	k := *e
	if e.RPC != nil {
		k.RPC = &RPC{Method: e.RPC.Method, Kind: e.RPC.Kind, Side: e.RPC.Side, Attempt: e.RPC.Attempt}
	}
	return k
}

// logLevel returns the level of events of kind k, or false if they are not
// logged.
func logLevel(k EventKind) (level slog.Level, logged bool) {
	switch k {
	case EventEnd:
		return 0, false
	case EventPanic:
		return slog.LevelError, true
	case EventRetry:
		return slog.LevelInfo, true
	case EventHedge:
		return slog.LevelDebug, true
	default:
		return slog.LevelWarn, true
	}
}

// logText is the message of a line.
func logText(k EventKind) string {
	switch k {
	case EventRefused:
		return "RPC refused"
	case EventRetry:
		return "RPC retried"
	case EventHedge:
		return "RPC hedged"
	case EventTimeout:
		return "RPC timed out"
	case EventPanic:
		return "RPC panicked"
	case EventWarning:
		return "likely mistake in a stack"
	case EventShadow:
		return "RPC would have been refused or ended"
	default:
		return "RPC " + k.String()
	}
}
