package measure

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// describe writes what measures, as Go's benchmarks do.
func describe(w io.Writer) {
	_, _ = fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\nprocessors: %d\nkernel: %s\ngo: %s\ndate: %s\n",
		runtime.GOOS, runtime.GOARCH, field("/proc/cpuinfo", "model name"), runtime.GOMAXPROCS(0),
		firstLine("/proc/sys/kernel/osrelease"), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}

// load returns how many processes want a processor, of this minute on average.
func load() string {
	one, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	return one
}

// firstLine returns the first line of a file, or "unknown".
func firstLine(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// field returns the value of the first line "name : value" of a file.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
