// Package cells runs the cells of a table of experiments: each is one scenario
// with one policy and one seed, in a process of its own with one processor. A run
// that panics loses one cell, memory is given back, and peers that keep state in
// package variables do not meet. Results are kept in a file and not measured
// again.
package cells

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/turret-go/turret/test/experiments/sim"
)

// Measures are the figures of one run, by name.
type Measures map[string]float64

// A Cell is what one run is about, and what came of it.
type Cell struct {
	Experiment string
	Policy     string
	Seed       uint64
	Measures   Measures             `json:",omitempty"`
	Series     map[string][]float64 `json:",omitempty"` // figures over time, for plots
}

// Key identifies what the cell is about.
func (c Cell) Key() string { return fmt.Sprint(c.Experiment, "|", c.Policy, "|", c.Seed) }

// resultMark precedes the cell in what its process prints.
const resultMark = "RESULT "

// cellVariable has the cell that a forked process measures.
const cellVariable = "TURRET_EXPERIMENT"

// Forked reports whether this process is one that [RunAll] has started. It then has
// measured its cell, and the program is to end.
func Forked(measure func(t *testing.T, c *Cell)) bool {
	text := os.Getenv(cellVariable)
	if text == "" {
		return false
	}
	var c Cell
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	sim.Host(func(t *testing.T) {
		measure(t, &c)
		line, _ := json.Marshal(c)
		fmt.Printf("\n%s%s\n", resultMark, line)
	})
	return true
}

// RunAll measures cells, some at a time, and adds them to the results and to the
// file. It says of each what it measured of the figure.
func RunAll(todo []Cell, parallel int, keep, figure string, results map[string]Cell) {
	f, err := os.OpenFile(keep, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer func() { _ = f.Close() }() // read or synced already
	var all sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, parallel)
	for _, c := range todo {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := fork(&c); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", c.Key(), err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			results[c.Key()] = c
			line, _ := json.Marshal(c)
			fmt.Fprintf(f, "%s\n", line)
			fmt.Fprintf(os.Stderr, "%s: %s %s\n", c.Key(), figure, Number(c.Measures[figure]))
		})
	}
	all.Wait()
}

// fork measures a cell in a process of its own.
func fork(c *Cell) error {
	text, _ := json.Marshal(c)
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), cellVariable+"="+string(text), "GOMAXPROCS=1", "GOGC=400")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	// Peers print what they like around it.
	_, line, _ := strings.Cut(string(out), resultMark)
	line, _, _ = strings.Cut(line, "\n")
	if err := json.Unmarshal([]byte(line), c); err != nil || len(c.Measures) == 0 {
		return fmt.Errorf("the run printed %q: %w", line, cmp.Or(err, errNothing))
	}
	return nil
}

var errNothing = errors.New("nothing was measured")

// Load reads results that were measured before.
func Load(name string) map[string]Cell {
	results := map[string]Cell{}
	f, err := os.Open(name)
	if err != nil {
		return results
	}
	defer func() { _ = f.Close() }() // read or synced already
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c Cell
		if json.Unmarshal(lines.Bytes(), &c) == nil {
			results[c.Key()] = c
		}
	}
	return results
}

// Missing returns the cells that have no result.
func Missing(all []Cell, results map[string]Cell) (todo []Cell) {
	for _, c := range all {
		if _, ok := results[c.Key()]; !ok {
			todo = append(todo, c)
		}
	}
	return todo
}

// Split returns the words of a list with commas, nil if it is empty.
func Split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// Numbers returns the numbers of a list with commas. It panics if one is none.
func Numbers(list string) (all []uint64) {
	for _, text := range Split(list) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic(err)
		}
		all = append(all, n)
	}
	return all
}
