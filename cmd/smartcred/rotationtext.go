package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/smartcred/smartcred/provider"
)

// advise fills in what to do next, and whether something is amiss.
func (s *standing) advise(now time.Time) {
	s.Next = []string{}
	act := func(format string, args ...any) {
		s.ActionNeeded = true
		s.Next = append(s.Next, fmt.Sprintf(format, args...))
	}
	current, previous, next := s.stage("current"), s.stage("previous"), s.stage("next")
	if s.Degraded != "" {
		act("mend the backend: %s", s.Degraded)
	}
	if current != nil && !current.Expires.IsZero() && !now.Before(current.Expires) {
		act("the current one ended at %s: put a new one in its place", when(current.Expires))
	}
	s.adviseRefused(now, current, act)
	if next != nil && !(next.works() && current != nil && current.refused()) {
		s.adviseNext(now, next, act)
	}
	if s.ActionNeeded {
		return
	}
	say := func(text string) { s.Next = append(s.Next, text) }
	switch {
	case current != nil && previous != nil && next == nil && current.works():
		say("the server takes the current one: once every process uses it, previous can go: smartcred rotation revoke previous, or as its backend does it")
	case next == nil && s.Method == provider.MethodPrivateKeyJWT && s.file:
		say("nothing; to rotate: smartcred rotation new-key")
	case next == nil:
		say("nothing; to rotate, write the new one where it is kept, and leave the old one as previous")
	}
	if s.StateFile == "" {
		say("set state_file, so that runs learn from one another what the server refuses")
	}
}

// adviseRefused says what to do about a server that does not take the current one.
func (s *standing) adviseRefused(now time.Time, current *held, act func(string, ...any)) {
	register := "register the current one at the server, or put back the one that it takes"
	if s.Method == provider.MethodPrivateKeyJWT {
		register = "register the current key at the server (smartcred jwks prints the set), or put back the one that it takes"
	}
	accepted := s.accepted()
	reset := ""
	if now.Before(s.BackoffUntil) || s.budgetSpent() {
		reset = "smartcred rotation reset ends the wait"
	}
	switch {
	case current == nil:
	case accepted == nil && current.Probe != nil && current.Probe.Result == probeRefused:
		act("the server refuses every one: %s", register)
	case current.refused() && accepted != nil && accepted.Stage == "next" && s.file:
		act("the server refuses the current one and takes %s: smartcred rotation activate --force", accepted.name())
	case current.refused() && accepted != nil && accepted != current:
		act("the server refuses the current one and takes %s: %s", accepted.name(), register)
	case current.Probe != nil && accepted == current && reset != "":
		act("the server takes the current one again: %s", reset)
		return
	case now.Before(s.BackoffUntil):
		act("the server refused every one, and nothing is sent until %s or the source has another value: %s", when(s.BackoffUntil), register)
	case s.budgetSpent():
		act("credentials that never worked were refused too often, and one request an hour is left: %s", register)
	default:
		return
	}
	if reset != "" {
		act("then %s", reset)
	}
}

// adviseNext says when the next key may take over.
func (s *standing) adviseNext(now time.Time, next *held, act func(string, ...any)) {
	switch {
	case next.Probe != nil && next.Probe.Result == probeRefused:
		s.Next = append(s.Next, "the server refuses the next key: register it there (smartcred jwks prints the set), or wait until the server has fetched the set; then probe again")
	case s.file && next.Probe == nil && next.Refusals > 0:
		s.Next = append(s.Next, "the server refused the next key before: smartcred rotation status --probe asks whether it takes it now; smartcred rotation revoke next removes it")
	case s.file && !next.Worked.IsZero() && !next.InForce:
		s.Next = append(s.Next, "the next key was in use at this server before: smartcred rotation activate makes it sign again, smartcred rotation revoke next removes it")
	case !s.file && next.NotBefore.IsZero():
		s.Next = append(s.Next, "the next key signs once it is named in signer, or when the server refuses the others")
	case !s.file:
		s.Next = append(s.Next, "the next key signs from "+when(next.NotBefore)+" on, by itself")
	case now.Before(s.publishSince.Add(s.publishFor)):
		s.Next = append(s.Next, "register the next key, if that was not done (smartcred jwks prints the set); from "+when(s.publishSince.Add(s.publishFor))+" on: smartcred rotation activate")
	default:
		act("the next key has been published for publish_for: smartcred rotation activate")
	}
}

// accepted is the credential that the server takes, as far as is known.
func (s *standing) accepted() *held {
	for _, h := range s.Credentials {
		if h.Probe != nil && h.Probe.Result == probeAccepted {
			return h
		}
	}
	for _, h := range s.Credentials {
		if h.Probe == nil && h.InForce && h.Refusals == 0 {
			return h
		}
	}
	return nil
}

func (s *standing) budgetSpent() bool {
	return s.HourlyBudget != nil && (*s.HourlyBudget == 0 || *s.DailyBudget == 0)
}

// works reports whether the server takes it, by the probe or else by the state.
func (h *held) works() bool {
	if h.Probe != nil {
		return h.Probe.Result == probeAccepted
	}
	return h.InForce && h.Refusals == 0
}

// refused reports whether the server does not take it.
func (h *held) refused() bool {
	if h.Probe != nil {
		return h.Probe.Result == probeRefused
	}
	return h.Refusals > 0
}

// text is the report for people.
func (s *standing) text() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintln(&b, printable(fmt.Sprintf(format, args...))) }
	line("client %s at %s, by %s", s.ClientID, s.Server, s.Method)
	for _, h := range s.Credentials {
		line("  %-9s %s", h.Stage, h.describe())
	}
	for _, g := range s.Gone {
		line("  %-9s version %s%s%s", "gone", g.Version, optional(", kid ", g.KeyID), at(", worked at ", g.Worked))
	}
	line("in force: %s", s.InForce)
	if !s.BackoffUntil.IsZero() {
		line("back-off: until %s", when(s.BackoffUntil))
	}
	if s.HourlyBudget != nil {
		line("budget: %d more refused requests in this hour, %d in 24 h, of credentials that never worked", *s.HourlyBudget, *s.DailyBudget)
	}
	if s.Degraded != "" {
		line("degraded: %s", s.Degraded)
	}
	for _, step := range s.Next {
		line("next: %s", step)
	}
	return b.Bytes()
}

func (h *held) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %s", h.Version)
	b.WriteString(optional(", kid ", h.KeyID) + optional(", ", string(h.Algorithm)) + optional(", ", h.Custody))
	b.WriteString(at(", since ", h.Created) + at(", signs from ", h.NotBefore) + at(", ends ", h.Expires) + at(", worked at ", h.Worked))
	if h.Refusals > 0 {
		fmt.Fprintf(&b, ", refused %s%s", times(h.Refusals), at(", comes last until ", h.RefusedUntil))
	}
	if h.InForce {
		b.WriteString(", in force")
	}
	if h.Probe != nil {
		fmt.Fprintf(&b, "; probe: %s%s", h.Probe.Result, optional(": ", h.Probe.Detail))
	}
	return b.String() + optional("; ", h.Note)
}

func optional(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func at(before string, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return before + when(t)
}
