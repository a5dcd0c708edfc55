package vaulttest

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// An AuditEntry is a line of Vault's audit log: a request as it came in, or the
// answer to it. Secrets in Request and Response are HMACs, as Vault writes them.
type AuditEntry struct {
	Time  time.Time `json:"time"`
	Type  string    `json:"type"` // request or response
	Error string    `json:"error"`
	Auth  struct {
		Accessor string   `json:"accessor"`
		Policies []string `json:"token_policies"`
	} `json:"auth"`
	Request struct {
		ID        string              `json:"id"` // request_id in the answer
		Operation string              `json:"operation"`
		Path      string              `json:"path"`
		Data      map[string]any      `json:"data"`
		Headers   map[string][]string `json:"headers"`
	} `json:"request"`
	Response struct {
		Data map[string]any `json:"data"`
	} `json:"response"`
	Raw []byte `json:"-"` // the whole line
}

// AuditLog returns what the server has audited since it began. A request is in
// it before it is answered.
func (s *Server) AuditLog(t testing.TB) []AuditEntry {
	t.Helper()
	data, err := os.ReadFile(s.audit())
	if err != nil {
		t.Fatalf("vaulttest: read audit log: %v", err)
	}
	var entries []AuditEntry
	for line := range bytes.Lines(data) {
		e := AuditEntry{Raw: bytes.TrimSpace(line)}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("vaulttest: read audit log: %v", err)
		}
		entries = append(entries, e)
	}
	return entries
}
