package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReferenceIsFresh(t *testing.T) {
	top := filepath.Join("..", "..", "..")
	proto, err := os.ReadFile(filepath.Join(top, schema))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(top, document))
	if err != nil {
		t.Fatal(err)
	}
	want, err := replace(string(text), Reference(string(proto)))
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("%s is not fresh: go run ./policy/internal/reference", document)
	}
}
