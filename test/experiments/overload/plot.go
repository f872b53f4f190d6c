package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/limiters"
)

// lines are the limits in the plots over time, and how each of them looks.
var lines = []struct {
	policy string
	color  color.RGBA
	width  vg.Length
}{
	{limiters.Nothing, color.RGBA{R: 0x9e, G: 0xa7, B: 0xb3, A: 0xff}, 1},
	{limiters.Tight, color.RGBA{R: 0xd2, G: 0x99, B: 0x22, A: 0xff}, 1},
	{"Netflix Gradient2 (windows)", color.RGBA{R: 0xa3, G: 0x71, B: 0xf7, A: 0xff}, 1},
	{"Envoy gradient", color.RGBA{R: 0x2d, G: 0xa4, B: 0x4e, A: 0xff}, 1},
	{"failsafe-go limiter", color.RGBA{R: 0xe5, G: 0x53, B: 0x4b, A: 0xff}, 1},
	{limiters.Ours, color.RGBA{R: 0x1f, G: 0x6f, B: 0xeb, A: 0xff}, 2},
}

// bin is the width of what is counted together in a plot, in seconds.
const bin = 0.2

// draw writes a plot over time of each scenario that has one.
func draw(r *report, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, e := range experiments() {
		if !e.drawn {
			continue
		}
		p, err := overTime(r, e)
		if err != nil {
			return err
		}
		if err := p.Save(22*vg.Centimeter, 9*vg.Centimeter, filepath.Join(folder, e.id+".svg")); err != nil {
			return err
		}
	}
	return nil
}

// overTime plots what is answered, as a part of what can be, with the first seed.
func overTime(r *report, e experiment) (*plot.Plot, error) {
	p := plot.New()
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Title.Text = fmt.Sprintf("%s: %s", e.id, e.title)
	p.X.Label.Text, p.Y.Label.Text = "seconds", "answered in time, % of what can be"
	for _, l := range lines {
		c, ok := r.results[cells.Cell{Experiment: e.id, Policy: l.policy, Seed: r.known[0]}.Key()]
		if !ok || !slices.Contains(e.policies, l.policy) {
			continue
		}
		var points plotter.XYs
		for i, share := range c.Series["answered"] {
			points = append(points, plotter.XY{X: bin * (float64(i) + 0.5), Y: 100 * share})
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = l.color, vg.Points(float64(l.width))
		p.Add(line)
		p.Legend.Add(l.policy, line)
	}
	p.Legend.Left, p.Legend.Top = false, false
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 5, 34, 0, 130
	return p, nil
}
