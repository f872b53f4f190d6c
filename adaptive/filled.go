package adaptive

import "time"

const filledEvery = int64(500 * time.Millisecond)

// filled is the mean number of calls inside and in line over the last second or
// half a second. It costs the calls no more than a sum.
type filled struct {
	now  mark
	mean float64 // between the last two marks
	from mark    // the last of them
}

// A mark is how much time calls had spent here until an instant.
type mark struct {
	at   int64
	area float64
}

// advance says that this many calls were here until now.
func (f *filled) advance(now int64, calls int) {
	if now <= f.now.at {
		return
	}
	f.now.area += float64(now-f.now.at) * float64(calls)
	f.now.at = now
	if age := now - f.from.at; age >= filledEvery {
		f.mean = (f.now.area - f.from.area) / float64(age)
		f.from = mark{at: now}
		f.now.area = 0
	}
}

// of returns the mean at the time of the last advance.
func (f *filled) of() float64 {
	age := float64(f.now.at - f.from.at)
	return (f.mean*float64(filledEvery) + f.now.area) / (float64(filledEvery) + age)
}
