package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/turret-go/turret/statusz"
)

// lines returns a View as lines of plain text. What a server could send to
// control a terminal is taken out.
func lines(v statusz.View) []string {
	p := &printer{}
	p.add("%s  %s  %s", v.Title, v.When.Format("15:04:05"), v.Process)
	p.add("")
	if len(v.Findings) == 0 {
		p.add("All quiet")
	}
	for _, f := range v.Findings {
		p.add("! %s %s", f.Where, f.What)
		p.add("    %s", f.Turn)
	}
	if v.MoreFindings > 0 {
		p.add("  and %d more", v.MoreFindings)
	}
	for _, w := range v.Warnings {
		p.add("? %s %s", w.Where, w.What)
		p.add("    %s (%s)", w.Turn, w.Check)
	}
	if v.MoreWarnings > 0 {
		p.add("  and %d more", v.MoreWarnings)
	}
	p.add("")
	var totals []string
	for _, t := range v.Totals {
		totals = append(totals, fmt.Sprintf("%s %.4g%s", t.Name, t.Value, t.Unit))
	}
	p.add("%s", strings.Join(totals, "   "))
	for _, s := range v.Stacks {
		p.add("")
		p.part(s, "")
	}
	for _, c := range v.Channels {
		p.channel(c)
	}
	p.events(v)
	return p.lines
}

type printer struct{ lines []string }

func (p *printer) add(format string, args ...any) {
	p.lines = append(p.lines, strings.TrimRight(strings.Map(printable, fmt.Sprintf(format, args...)), " "))
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// part adds a part of a stack and what is inside it, indented.
func (p *printer) part(s statusz.Part, indent string) {
	line := indent + strings.TrimSpace(s.Title+" "+s.Name)
	if s.State != "" {
		line += " " + s.State
	}
	if s.Max > 0 {
		line += fmt.Sprintf("  %.4g of %.4g", s.Used, s.Max)
	}
	if s.Refused > 0 {
		line += fmt.Sprintf("  refuses %.4g/s", s.Refused)
	}
	p.add("%s", line)
	for _, child := range s.Children {
		p.part(child, indent+"  ")
	}
	if s.More > 0 {
		p.add("%s  and %d more", indent, s.More)
	}
}

func (p *printer) channel(c statusz.Channel) {
	p.add("")
	p.add("%s  %d of %d endpoints in use", c.Name, c.InUse, c.Known)
	for _, e := range c.Endpoints {
		p.add("  %-24s %-12s %3.0f %%  %8.4g/s  %8.4g failed/s  %8.4g ms  %s", e.Name, e.State, 100*e.Share, e.Calls, e.Failed, 1000*e.Latency, e.Why)
	}
	if c.More > 0 {
		p.add("  and %d more", c.More)
	}
}

func (p *printer) events(v statusz.View) {
	if len(v.Events) > 0 {
		p.add("")
	}
	for _, e := range v.Events {
		p.add("%-8s %8.4g/s %8.0f in all  %s %s", e.What, e.Rate, e.Ever, e.Layer, e.Reason)
	}
	if len(v.Methods) > 0 {
		p.add("")
	}
	for _, m := range v.Methods {
		p.add("%-6s %8.4g/s %5.1f %% failed  p50 %.4g ms  p99 %.4g ms  %s", m.Side, m.Rate, 100*m.Failed, 1000*m.P50, 1000*m.P99, m.Method)
	}
	if v.MoreMethods > 0 {
		p.add("and %d methods more", v.MoreMethods)
	}
}
