package statusz

import (
	"math"
	"strconv"
)

// num returns v with about three digits: "0.4", "38.6", "264", "11.6k".
func num(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strconv.FormatFloat(math.Round(v/1e5)/10, 'f', -1, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(math.Round(v/100)/10, 'f', -1, 64) + "k"
	case a >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	case a >= 1:
		return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	default:
		return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	}
}

// seconds returns a time in seconds as people write it: "6.4 ms", "1.5 s".
func seconds(s float64) string {
	switch a := math.Abs(s); {
	case a >= 2*86400:
		return num(math.Floor(s/86400)) + " d"
	case a >= 2*3600:
		return num(math.Floor(s/3600)) + " h"
	case a >= 120:
		return num(math.Floor(s/60)) + " min"
	case a >= 1:
		return num(s) + " s"
	case a >= 0.001:
		return num(s*1e3) + " ms"
	default:
		return num(s*1e6) + " µs"
	}
}
