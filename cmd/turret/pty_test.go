package main

import (
	"bufio"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/turret-go/turret/statusz"
)

// asTurret makes the test's binary the command.
const asTurret = "TURRET_TEST_IS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asTurret) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestTopOnTerminal runs the command on a terminal that the tool script makes,
// types what ends it once the page is there, and checks that the terminal is as
// it was.
func TestTopOnTerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("there is no tool script on this machine")
	}
	page := statusz.New(statusz.Config{Title: "checkout"})
	defer page.Close()
	server := httptest.NewServer(page)
	defer server.Close()
	for name, key := range map[string]string{"q": "q", "Ctrl-C": "\x03"} {
		t.Run(name, func(t *testing.T) {
			const shell = `stty rows 30 cols 90; echo "[$(stty -g)]"; "$TOP" top "$PAGE"; echo "status $?"; echo "[$(stty -g)]"`
			c := exec.CommandContext(t.Context(), script, "-qec", shell, "/dev/null")
			c.Env = append(os.Environ(), asTurret+"=1", "TOP="+os.Args[0], "PAGE="+server.URL, "SHELL=/bin/sh")
			typed, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			printed, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			var settings []string
			shown, ended := false, false
			lines := bufio.NewScanner(printed)
			for lines.Scan() {
				line := strings.TrimSpace(lines.Text())
				if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
					settings = append(settings, line)
				}
				ended = ended || strings.Contains(line, "\x1b[?25h\x1b[?1049lstatus 0")
				// Once: what is typed after the end would be the shell's. The title is on
				// every page, also on one that reports that the machine stood still.
				if !shown && strings.Contains(line, "checkout") {
					shown = true
					_, _ = typed.Write([]byte(key))
				}
			}
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			if !ended || len(settings) != 2 || settings[0] != settings[1] {
				t.Errorf("ended well: %t; the terminal's settings were and are %q", ended, settings)
			}
		})
	}
}
