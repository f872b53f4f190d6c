package hedge

import "time"

// back is how far back, in seconds, a history goes.
const back = 60

// A history remembers the value of the last minute, second by second. Instants
// are nanoseconds since some base.
type history struct {
	value  time.Duration
	second int64                   // of the last set
	values [back + 1]time.Duration // at the beginning of each second up to that one
}

// set makes v the value from now on.
func (h *history) set(now int64, v time.Duration) {
	second := now / int64(time.Second)
	for s := max(h.second+1, second-back); s <= second; s++ {
		h.values[s%int64(len(h.values))] = h.value
	}
	h.second = max(h.second, second)
	h.value = v
}

// minuteAgo returns the value that held a minute before now, to the second; 0
// if there was none.
func (h *history) minuteAgo(now int64) time.Duration {
	switch s := now/int64(time.Second) - back; {
	case s < 0:
		return 0
	case s > h.second:
		return h.value // since then
	default:
		return h.values[max(s, h.second-back)%int64(len(h.values))]
	}
}
