// Command bench measures the numbers that smartcred promises to hold, all in
// one run, each beside the code it is compared with.
//
//	go run ./bench                 print the table
//	go run ./bench -gate           and end with status 1 if a bound is missed
//	go run ./bench -only assertion -cpuprofile cpu.out
//
// # Method
//
// Times are ratios. The two things compared run in small batches, back to back,
// in mirrored order (A B B A), many rounds over; each round gives one ratio, so
// that whatever else the machine does meets both alike. A batch of what waits for
// another process is one operation. The quarter of the rounds
// that took least time counts. The value is the median of their ratios, the noise
// three standard errors of that median, taken from the ratios' median absolute
// deviation. A bound is missed when value − noise is over it, twice: a miss is
// measured again before it counts.
//
// Counts (requests, signatures, allocations, bytes) have no noise.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"text/tabwriter"
)

// unbounded is the bound of results that are printed for comparison only.
var unbounded = math.Inf(1)

// A result is one line of the table.
type result struct {
	what   string
	value  float64
	noise  float64
	unit   string
	bound  float64
	detail string
}

func (r result) missed() bool { return r.value-r.noise > r.bound }

func (r result) verdict() string {
	switch {
	case r.bound == unbounded:
		return ""
	case r.missed():
		return "MISSED"
	case r.value > r.bound:
		return "within noise"
	default:
		return "ok"
	}
}

// A row is one line of the promises, with as many results as it needs.
type row struct {
	name    string
	promise string
	measure func() ([]result, error)
}

// An unmeasuredError says that this machine can't measure a row. With CI=true in
// the environment it counts as a missed bound.
type unmeasuredError struct {
	why string
	err error
}

func (e *unmeasuredError) Error() string { return "not measured: " + e.why + ": " + e.err.Error() }
func (e *unmeasuredError) Unwrap() error { return e.err }

var rows = []row{
	{"cached", "cached Token(ctx), parallel", cachedToken},
	{"assertion", "assertion with a local key", assertions},
	{"vault", "assertion with a key in Vault", vaultAssertions},
	{"kms", "assertion with a key in AWS KMS, the calls counted", kmsAssertions},
	{"herd", "10,000 goroutines, expired token", herd},
	{"coldstart", "10,000 callers at a cold start, both secrets refused", coldStart},
	{"grants", "10,000 codes and refresh tokens at a cold start, current secret wrong, previous right", grants},
	{"flaky", "server refuses 1 in 50 valid requests, one caller a second for a simulated day", flakyServer},
	{"deadline", "10 ms deadline during a 300 ms refresh", deadline},
	{"plugin", "a look-up by a plugin program", pluginPrograms},
	{"idle", "100,000 idle clients in one process", idleClients},
}

func main() {
	if os.Getenv(simulationEnv) != "" {
		simulate()
		return
	}
	if role := os.Getenv(pluginEnv); role != "" {
		bePlugin(role)
		return
	}
	gate := flag.Bool("gate", false, "end with status 1 if a bound is missed by more than its noise")
	only := flag.String("only", "", "measure only the rows whose name matches this regular expression")
	cpu := flag.String("cpuprofile", "", "write a CPU profile to this `file`")
	flag.Parse()
	missed, err := run(os.Stdout, *only, *cpu)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if *gate && missed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d bounds missed, or not measured\n", missed)
		os.Exit(1)
	}
}

// run measures the rows that only matches, prints them, and returns how many
// bounds were missed.
func run(w io.Writer, only, cpuProfile string) (missed int, err error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return 0, err
	}
	if cpuProfile != "" {
		f, err := os.Create(cpuProfile)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return 0, err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Fprintf(w, "%s %s/%s, GOMAXPROCS %d\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))
	for _, row := range rows {
		if !pattern.MatchString(row.name) {
			continue
		}
		results, err := measureTwiceIfMissed(row)
		if errors.As(err, new(*unmeasuredError)) {
			fmt.Fprintf(w, "\n%s\n  %v\n", row.promise, err)
			if os.Getenv("CI") == "true" {
				missed++
			}
			continue
		}
		if err != nil {
			return missed, fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(w, "\n%s\n", row.promise)
		if err := printResults(w, results); err != nil {
			return missed, err
		}
		for _, r := range results {
			if r.missed() {
				missed++
			}
		}
	}
	return missed, nil
}

// measureTwiceIfMissed returns for each result the better of two measurements,
// if the first one missed its bound.
func measureTwiceIfMissed(row row) ([]result, error) {
	results, err := row.measure()
	if err != nil {
		return nil, err
	}
	again := false
	for _, r := range results {
		again = again || r.missed()
	}
	if !again {
		return results, nil
	}
	second, err := row.measure()
	if err != nil {
		return nil, err
	}
	for i, r := range second {
		if results[i].missed() && !r.missed() {
			results[i] = r
		}
	}
	return results, nil
}

func printResults(w io.Writer, results []result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		bound := ""
		if r.bound != unbounded {
			bound = "≤ " + number(r.bound) + r.unit
		}
		noise := ""
		if r.noise > 0 {
			noise = "± " + number(r.noise)
		}
		fmt.Fprintf(table, "  %s\t%s%s %s\t%s\t%s\t%s\n", r.what, number(r.value), r.unit, noise, bound, r.verdict(), r.detail)
	}
	return table.Flush()
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
