package main

import (
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// draw writes the plots of r into a directory.
func draw(r *results, directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for _, s := range sections {
		found, groups := s.of(r)
		if s.growth == nil || len(found) == 0 {
			continue
		}
		p, err := s.plot(found, groups)
		if err != nil {
			return err
		}
		if err := p.Save(18*vg.Centimeter, 11*vg.Centimeter, filepath.Join(directory, s.growth.file+".svg")); err != nil {
			return err
		}
	}
	return nil
}

// plot draws a line for each row, over the numbers of the comparisons.
func (s section) plot(found []*comparison, groups []string) (*plot.Plot, error) {
	plot.DefaultFont.Variant = "Sans"
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = s.title, s.growth.of, s.growth.y
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks(groups)
	if s.growth.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	} else {
		p.Y.Min = 0
	}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Millimeter
	p.Add(plotter.NewGrid())
	most := 0.0
	for i, row := range found[0].rows {
		var points plotter.XYs
		for j, c := range found {
			n, here := number(groups[j]), c.row(row.name)
			if here == nil {
				continue
			}
			y := median(here.cpu) / s.growth.divisor(n)
			points, most = append(points, plotter.XY{X: float64(n), Y: y}), max(most, y)
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color, dots.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		line.Dashes = plotutil.Dashes(i)
		p.Add(line, dots)
		p.Legend.Add(row.name, line, dots)
	}
	// The legend is above the lines.
	p.Y.Max = most * 1.5
	if s.growth.logY {
		p.Y.Max = most * 30
	}
	return p, nil
}

// ticks labels the numbers that were measured.
func ticks(groups []string) plot.ConstantTicks {
	var all plot.ConstantTicks
	for _, g := range groups {
		n := number(g)
		all = append(all, plot.Tick{Value: float64(n), Label: thousands(n)})
	}
	return all
}
