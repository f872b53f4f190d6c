package limiters

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	_ "unsafe" // for the names of variables below

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/go-kratos/aegis/ratelimit"
	"github.com/go-kratos/aegis/ratelimit/bbr"
	"github.com/zeromicro/go-zero/core/load"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/stat"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/test/experiments/surge"
)

// The bounds of failsafe-go's limiters are 1 and 200 by default; some servers here
// can do more.
func failsafe() adaptivelimiter.Builder[any] {
	return adaptivelimiter.NewBuilder[any]().WithLimits(1, greatest, initial)
}

// permitted is a limiter of failsafe-go as its gRPC interceptor uses it: every call
// is recorded, however it ends.
func permitted(acquire func(ctx context.Context, c *surge.Call) (adaptivelimiter.Permit, error)) surge.Door {
	return door(func(ctx context.Context, c *surge.Call) (func(turret.Outcome), error) {
		permit, err := acquire(ctx, c)
		if err != nil {
			return nil, err
		}
		return func(turret.Outcome) { permit.Record() }, nil
	})
}

func failsafeLimiter(surge.Scenario, func() time.Duration) surge.Door {
	l := failsafe().Build()
	return permitted(func(context.Context, *surge.Call) (adaptivelimiter.Permit, error) {
		permit, ok := l.TryAcquirePermit()
		if !ok {
			return nil, adaptivelimiter.ErrExceeded
		}
		return permit, nil
	})
}

func failsafeQueue(surge.Scenario, func() time.Duration) surge.Door {
	l := failsafe().WithQueueing(2, 3).Build()
	return permitted(func(ctx context.Context, _ *surge.Call) (adaptivelimiter.Permit, error) {
		return l.AcquirePermit(ctx)
	})
}

// failsafePriorities is calibrated once a second, as the documentation shows.
func failsafePriorities(surge.Scenario, func() time.Duration) surge.Door {
	prioritizer := adaptivelimiter.NewPrioritizer()
	l := failsafe().BuildPrioritized(prioritizer)
	var mu sync.Mutex
	var calibrated time.Time
	return permitted(func(ctx context.Context, c *surge.Call) (adaptivelimiter.Permit, error) {
		mu.Lock()
		if now := time.Now(); now.Sub(calibrated) >= time.Second {
			calibrated = now
			prioritizer.Calibrate()
		}
		mu.Unlock()
		return l.AcquirePermitWithPriority(ctx, priority.VeryHigh-priority.Priority(c.Level))
	})
}

// failsafeThrottler fails with calls that miss their deadline.
func failsafeThrottler(surge.Scenario, func() time.Duration) surge.Door {
	t := adaptivethrottler.NewWithDefaults[any]()
	return door(func(context.Context, *surge.Call) (func(turret.Outcome), error) {
		if err := t.AcquirePermit(); err != nil {
			return nil, err
		}
		return func(o turret.Outcome) {
			if o == turret.Failure {
				t.RecordFailure()
			} else {
				t.RecordSuccess()
			}
		}, nil
	})
}

// processor is the load of the processor as a peer averages it. The share of time in
// which the server is busy stands for the processor, for pools of workers as well.
// The average begins at the load of the time before the event.
type processor struct {
	mu    sync.Mutex
	busy  func() time.Duration
	every time.Duration
	at    time.Time
	read  time.Duration
	load  float64 // thousandths
}

func newProcessor(sc surge.Scenario, busy func() time.Duration, every time.Duration) *processor {
	return &processor{busy: busy, every: every, load: 1000 * min(sc.Normal, 1)}
}

// usage returns the average at this time; decay is the weight of what was before.
func (p *processor) usage() int64 {
	const decay = 0.95
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.IsZero() {
		p.at, p.read = time.Now(), p.busy()
	}
	if past := time.Since(p.at); past >= p.every {
		read := p.busy()
		share := float64(read-p.read) / float64(past)
		p.at, p.read = p.at.Add(past), read
		for range past / p.every {
			p.load = decay*p.load + (1-decay)*1000*min(share, 1)
		}
	}
	return int64(p.load)
}

// The averages of the modules, which they measure at the real processor.
//
//go:linkname kratosUsage github.com/go-kratos/aegis/ratelimit/bbr.gCPU
var kratosUsage int64 //nolint:modernize // it is the module's variable, of this type

//go:linkname goZeroUsage github.com/zeromicro/go-zero/core/stat.cpuUsage
var goZeroUsage int64 //nolint:modernize // it is the module's variable, of this type

// kratos is bbr as kratos' middleware uses it, with its defaults.
func kratos() func(surge.Scenario, func() time.Duration) surge.Door {
	return func(sc surge.Scenario, busy func() time.Duration) surge.Door {
		p := newProcessor(sc, busy, 500*time.Millisecond)
		return bbrDoor(bbr.NewLimiter(), p.usage)
	}
}

// kratosAlways is bbr as if the processor were always too busy.
func kratosAlways(surge.Scenario, func() time.Duration) surge.Door {
	return bbrDoor(bbr.NewLimiter(bbr.WithCPUThreshold(0)), func() int64 { return 1000 })
}

func bbrDoor(l *bbr.BBR, usage func() int64) surge.Door {
	return door(func(context.Context, *surge.Call) (func(turret.Outcome), error) {
		atomic.StoreInt64(&kratosUsage, usage())
		done, err := l.Allow()
		if err != nil {
			return nil, err
		}
		return func(turret.Outcome) { done(ratelimit.DoneInfo{}) }, nil
	})
}

// Quiet turns off what go-zero logs and reports by itself.
func Quiet() {
	logx.Disable()
	stat.DisableLog()
	stat.SetReporter(nil)
}

// goZero is the shedder as zrpc's interceptor uses it: a call that missed its
// deadline gives no sample. always is as if the processor were at the threshold all
// the time.
func goZero(always bool) func(surge.Scenario, func() time.Duration) surge.Door {
	return func(sc surge.Scenario, busy func() time.Duration) surge.Door {
		load.DisableLog()
		const threshold = 900
		p := newProcessor(sc, busy, 250*time.Millisecond)
		usage := p.usage
		if always {
			usage = func() int64 { return threshold }
		}
		shedder := load.NewAdaptiveShedder(load.WithCpuThreshold(threshold))
		return door(func(context.Context, *surge.Call) (func(turret.Outcome), error) {
			atomic.StoreInt64(&goZeroUsage, usage())
			promise, err := shedder.Allow()
			if err != nil {
				return nil, err
			}
			return func(o turret.Outcome) {
				if o == turret.Failure {
					promise.Fail()
				} else {
					promise.Pass()
				}
			}, nil
		})
	}
}
