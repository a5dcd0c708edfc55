package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Setenv("KEYHOUSE_TOKEN", "") // run sets it: this takes it back
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := `secret [redacted], version 1
assertion signed by key version 1 of 1, ES384, generated inside
secret [redacted], version 2
assertion signed by key version 2 of 2, ES384, generated inside
`
	if out.String() != want {
		t.Errorf("it says\n%swant\n%s", out.String(), want)
	}
}
