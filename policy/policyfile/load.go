package policyfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/internal/tree"
)

// Load reads a policy from a file. The error is that of opening or reading the
// file, or what [Parse] says of it. It never waits: what is not a regular file,
// such as a pipe, is refused. A symbolic link is followed.
func Load(name string) (policy.Document, error) {
	data, err := read(name)
	if err != nil {
		return policy.Document{}, err
	}
	return Parse(name, data)
}

// read returns what a regular file holds.
func read(name string) ([]byte, error) {
	// O_NONBLOCK: to open a pipe that nothing writes to would wait.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("policyfile: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("policyfile: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("policyfile: %w", &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("is %s, must be a regular file", kindOf(info.Mode()))})
	}
	data, err := io.ReadAll(io.LimitReader(f, tree.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("policyfile: %w", err)
	}
	if len(data) > tree.MaxSize {
		return nil, policy.Errors{{
			At: policy.Position{File: name}, Text: fmt.Sprintf("is longer than %d bytes, must not be", tree.MaxSize),
		}}
	}
	return data, nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "of mode " + mode.String()
	}
}
