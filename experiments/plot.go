package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// draw writes a plot of the latencies of each experiment that has peers: a bar
// for each policy, on a logarithmic scale.
func draw(folder string, results map[string]cell) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		panic(err)
	}
	for _, e := range experiments {
		if e.peers == nobody {
			continue
		}
		figure := "p99"
		if e.id == "E1" || e.id == "E1b" || e.id == "E2" || e.id == "E3" {
			figure = "p99.9"
		}
		svg := bars(e, figure, gather(results, e.id, []uint64{1, 2, 3}))
		if svg == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, strings.ToLower(e.id)+".svg"), []byte(svg), 0o644); err != nil {
			panic(err)
		}
	}
}

const (
	barHeight = 18
	barGap    = 8
	labelEdge = 210
	width     = 720
)

// bars returns the plot of one figure.
func bars(e experiment, figure string, rows map[string][]measures) string {
	type bar struct {
		policy string
		value  float64
	}
	var all []bar
	low, high := math.Inf(1), 0.0
	for _, p := range policiesFor(experiment{id: e.id, peers: e.peers}, false) {
		if len(rows[p]) == 0 {
			continue
		}
		values := valuesOf(rows[p], figure)
		v := values[len(values)/2]
		all = append(all, bar{p, v})
		low, high = min(low, v), max(high, v)
	}
	if len(all) == 0 {
		return ""
	}
	low /= 2 // the shortest bar is seen
	var b strings.Builder
	height := 40 + len(all)*(barHeight+barGap)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="8" y="18" font-size="14">%s: %s, %s in ms (logarithmic)</text>`+"\n",
		width, height, e.id, e.scenario(1).Title, figure)
	for i, bar := range all {
		y := 32 + i*(barHeight+barGap)
		color := "#9aa7b4"
		if bar.policy == ours().Name {
			color = "#1f6feb"
		}
		length := 10 + (width-labelEdge-80)*math.Log(bar.value/low)/math.Log(2*high/low)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelEdge-8, y+13, bar.policy)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="%s"/>`, labelEdge, y, length, barHeight, color)
		fmt.Fprintf(&b, `<text x="%.0f" y="%d">%s</text>`+"\n", labelEdge+length+6, y+13, number(bar.value))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
