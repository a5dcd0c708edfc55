package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// flakyServer counts the calls that fail at a server that refuses one in 50
// valid requests: one caller a second for a day of simulated time, every call a
// token request. Simulated time is package synctest's, which has it for tests
// only, so that the measuring is done by a child process that is one.
func flakyServer() ([]result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), simulationEnv+"=1")
	output, err := child.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("simulation: %w: %s", err, output)
	}
	var results []result
	for line := range strings.Lines(string(output)) {
		var m simulation
		if json.Unmarshal([]byte(line), &m) != nil {
			continue // what the testing package says
		}
		bound := 0.1
		if m.Other {
			bound = unbounded
		}
		results = append(results, result{
			what: "failed calls, " + m.Name, value: 100 * float64(m.Failed) / float64(m.Calls), unit: " %", bound: bound,
			detail: fmt.Sprintf("%d of %d calls, %d token requests", m.Failed, m.Calls, m.Requests),
		})
	}
	if len(results) != len(simulations) {
		return nil, fmt.Errorf("simulation: %d results: %s", len(results), output)
	}
	return results, nil
}

const simulationEnv = "SMARTCRED_BENCH_SIMULATION"

// A simulation is one day at the flaky server, and how it went.
type simulation struct {
	Name     string
	Other    bool   // x/oauth2
	Previous string // the previous secret
	Seed     uint64
	Calls    int
	Failed   int
	Requests int64
}

var simulations = []simulation{
	{Name: "no previous secret", Seed: 1},
	{Name: "no previous secret, another seed", Seed: 2},
	{Name: "dead previous secret", Previous: wrongSecret, Seed: 3},
	{Name: "dead previous secret, another seed", Previous: wrongSecret, Seed: 4},
	{Name: "x/oauth2", Other: true, Seed: 5},
}

// simulate is the child process: it prints a line of JSON for each simulation.
func simulate() {
	var tests []testing.InternalTest
	for _, s := range simulations {
		tests = append(tests, testing.InternalTest{Name: s.Name, F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := s.run(t.Context(), 24*time.Hour); err != nil {
					t.Fatal(err)
				}
			})
			line, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s\n", line)
		}})
	}
	testing.Main(func(string, string) (bool, error) { return true, nil }, tests, nil, nil)
}

// run is called in a synctest bubble.
func (s *simulation) run(ctx context.Context, span time.Duration) error {
	server := newEHR(smartauthtest.Options{Seed: s.Seed, TokenLifetime: time.Second})
	defer server.Close()
	server.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Stage: smartauthtest.Accepted, OneIn: 50, Error: "invalid_client"})

	p, err := secretPair(rightSecret, s.Previous)
	if err != nil {
		return err
	}
	client, err := server.client(p)
	if err != nil {
		return err
	}
	defer client.Close()
	call := func() error { _, err := client.Token(ctx); return err }
	if s.Other {
		cfg, ctx := server.otherConfig(rightSecret), server.otherContext(ctx)
		call = func() error { _, err := cfg.Token(ctx); return err }
	}
	for range span / time.Second {
		s.Calls++
		if call() != nil {
			s.Failed++
		}
		time.Sleep(time.Second)
	}
	// A call that fails may have been spared its request, by a back-off for example.
	if s.Requests = server.requests.Load(); s.Requests < int64(s.Calls-s.Failed) {
		return fmt.Errorf("%d calls, %d of which failed, made %d token requests only", s.Calls, s.Failed, s.Requests)
	}
	return nil
}
