package adaptive

import "time"

const (
	usageRows  = 2
	usageWidth = 1024
	usageHalf  = int64(2 * time.Second)
)

// A usage estimates how many places each key was given lately. It is a count-min
// sketch (Cormode and Muthukrishnan, 2005) whose counts are halved every two
// seconds: its size does not depend on the number of keys. Keys that collide in
// both rows are counted as one. A key that asks for less than its share for an
// instant can make up for it while it is remembered.
type usage struct {
	counts [usageRows][usageWidth]uint32
	halved int64
}

// cells returns where the counts of key are.
func (u *usage) cells(key uint64) (a, b *uint32) {
	return &u.counts[0][key%usageWidth], &u.counts[1][(key>>32)%usageWidth]
}

// add counts a place that key was given at now.
func (u *usage) add(now int64, key uint64) {
	if periods := (now - u.halved) / usageHalf; periods > 0 {
		u.halve(uint(min(periods, 31)))
		u.halved += periods * usageHalf
	}
	a, b := u.cells(key)
	*a++
	*b++
}

func (u *usage) halve(times uint) {
	for i := range u.counts {
		for j := range u.counts[i] {
			u.counts[i][j] >>= times
		}
	}
}

// of returns what key was given.
func (u *usage) of(key uint64) uint32 {
	a, b := u.cells(key)
	return min(*a, *b)
}
