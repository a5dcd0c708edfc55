package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestQuickstart(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for want, times := range map[string]int{"HTTP 200": 2, "Part 1": 1, "Part 2": 1, `"alg": "ES384"`: 2, "[redacted]": 3} {
		if got := strings.Count(out.String(), want); got < times {
			t.Errorf("%q %d times, want %d:\n%s", want, got, times, out.String())
		}
	}
}
