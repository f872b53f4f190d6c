package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/turret-go/turret/test/experiments/cells"
)

// drawn are the quantiles in the plots, and how each of them looks.
var drawn = []struct {
	quantile string
	shape    draw.GlyphDrawer
}{
	{"p50", draw.RingGlyph{}},
	{"p99", draw.CircleGlyph{}},
	{"p99.9", draw.PyramidGlyph{}},
}

var (
	oursColor = color.RGBA{R: 0x1f, G: 0x6f, B: 0xeb, A: 0xff}
	peerColor = color.RGBA{R: 0x6e, G: 0x77, B: 0x81, A: 0xff}
	lineColor = color.RGBA{R: 0xd0, G: 0xd7, B: 0xde, A: 0xff}
)

// drawAll writes a plot of the latencies of each experiment that has peers.
func drawAll(folder string, results map[string]cells.Cell, seeds []uint64) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, e := range experiments {
		rows := cells.Gather(results, e.id, seeds)
		if e.peers == none || len(rows) < 2 {
			continue
		}
		p, n, err := dots(e, rows)
		if err != nil {
			return err
		}
		height := vg.Length(n)*0.8*vg.Centimeter + 2.5*vg.Centimeter
		if err := p.Save(20*vg.Centimeter, height, filepath.Join(folder, strings.ToLower(e.id)+".svg")); err != nil {
			return err
		}
	}
	return nil
}

// dots is a plot with a line for each of n policies, and on it the quantiles of
// its latency, on a logarithmic scale.
func dots(e experiment, rows map[string][]cells.Measures) (p *plot.Plot, n int, err error) {
	var names []string
	for _, policy := range policiesFor(e, false) {
		if len(rows[policy]) > 0 {
			names = append(names, policy)
		}
	}
	slices.Reverse(names) // the first one on top
	p = plot.New()
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Title.Text = fmt.Sprintf("%s: %s", e.id, e.scenario(1).Title)
	p.X.Label.Text = "latency in ms"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	p.NominalY(names...)
	p.Legend.Top = true
	for i, name := range names {
		if err := dotsOf(p, float64(i), name, rows[name], i == len(names)-1); err != nil {
			return nil, 0, err
		}
	}
	p.Y.Min, p.Y.Max = -0.7, float64(len(names))-0.3
	p.X.Min, p.X.Max = p.X.Min/1.05, p.X.Max*1.3 // room for the legend
	return p, len(names), nil
}

// dotsOf draws the line of one policy.
func dotsOf(p *plot.Plot, y float64, policy string, all []cells.Measures, legend bool) error {
	dot := peerColor
	if policy == ours().Name {
		dot = oursColor
	}
	var line plotter.XYs
	for _, d := range drawn {
		line = append(line, plotter.XY{X: cells.Median(all, d.quantile), Y: y})
	}
	l, err := plotter.NewLine(line)
	if err != nil {
		return err
	}
	l.Color, l.Width = lineColor, vg.Points(3)
	p.Add(l)
	for i, d := range drawn {
		s, err := plotter.NewScatter(line[i : i+1])
		if err != nil {
			return err
		}
		s.Color, s.Shape, s.Radius = dot, d.shape, vg.Points(4)
		p.Add(s)
		if legend {
			p.Legend.Add(d.quantile, s)
		}
	}
	return nil
}

// logTicks marks 1, 2 and 5 of every power of ten.
func logTicks(low, high float64) (ticks []plot.Tick) {
	for decade := math.Pow10(int(math.Floor(math.Log10(low)))); decade <= high; decade *= 10 {
		for _, v := range []float64{decade, 2 * decade, 5 * decade} {
			if v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
			}
		}
	}
	return ticks
}
