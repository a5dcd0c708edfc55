package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
)

func (a *app) checkup() *cobra.Command {
	var asJSON bool
	within := rawValue{shape: isDuration}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check backends, keys, expiry, clock and server, without a token request",
		Long: `Check looks whether a token request would have what it needs, and makes none:
the backends answer and let this user in, every key signs, where it is kept and
whether it can leave, when secrets end, modes of files, the server's SMART
configuration and its clock. It prints a line for each, ok, warn or fail, and ends
with status 1 if something needs a person, 4 or 5 if a backend or the server can't
be asked.`,
		Example: `  smartcred check --config smartcred.yaml --expires-within 30d`,
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().Var(&within, "expires-within", "warn of a secret that ends within that time, such as 30d (default 0s)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	seen := &noticed{}
	a.withObservedConfiguration(cmd, needServer|needClient|needMethod, seen, func(ctx context.Context, o *session) error {
		horizon := time.Duration(0)
		if cmd.Flags().Changed("expires-within") {
			d, err := parseDuration(within.values[len(within.values)-1])
			if err != nil || d < 0 {
				return &smartcred.ConfigError{Option: "--expires-within", Problem: "is no duration: write 30d or 12h"}
			}
			horizon = d
		}
		h := &health{Checks: []finding{}}
		h.checkState(o)
		h.checkPlugins(o)
		h.checkSecrets(ctx, o, time.Now().Add(horizon))
		h.checkKeys(ctx, o)
		h.checkServer(ctx, o)
		h.checkNoticed(seen)
		h.Status = h.worst()
		report := h.text()
		if asJSON {
			var err error
			if report, err = indented(h); err != nil {
				return err
			}
		}
		if err := a.print(report); err != nil {
			return err
		}
		return h.failure()
	})
	return cmd
}

// The verdicts of a check, the better first.
const (
	verdictOK   = "ok"
	verdictWarn = "warn"
	verdictFail = "fail"
)

// A finding is one line of the report.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Detail string `json:"detail"`
}

// A health is what check found.
type health struct {
	Status string    `json:"status"`
	Checks []finding `json:"checks"`
	// failed is why something could not be asked.
	failed []error
}

func (h *health) add(check, status, format string, args ...any) {
	h.Checks = append(h.Checks, finding{Check: check, Status: status, Detail: fmt.Sprintf(format, args...)})
}

// fail is a check that ended with err.
func (h *health) fail(check string, err error) {
	h.add(check, verdictFail, "%s", plainText(err))
	h.failed = append(h.failed, err)
}

func (h *health) worst() string {
	worst := verdictOK
	for _, f := range h.Checks {
		switch {
		case f.Status == verdictFail:
			return verdictFail
		case f.Status == verdictWarn:
			worst = verdictWarn
		}
	}
	return worst
}

// failure is how the command ends: with the status of the first failure, or
// with that of something to act on.
func (h *health) failure() error {
	if len(h.failed) > 0 {
		return h.failed[0]
	}
	if h.worst() != verdictOK {
		return errFound
	}
	return nil
}

func (h *health) text() []byte {
	var b []byte
	for _, f := range h.Checks {
		b = fmt.Appendf(b, "%-4s  %-11s %s\n", f.Status, f.Check, printable(f.Detail))
	}
	return b
}
