package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// batchTime is how long one batch of a contender runs: long beside a goroutine's
// start, short beside the time slices of a busy machine.
const batchTime = time.Millisecond

// quietPart is the part of the rounds that counts, those that took least time:
// what disturbs a round only ever adds to it.
const quietPart = 0.25

// A contender is one of the things compared. run does its operation n times.
type contender struct {
	name string
	run  func(n int)
}

// race lets the contenders run back to back, rounds times, in mirrored order,
// and returns each one's nanoseconds per operation for each round.
func race(rounds int, contenders ...contender) [][]float64 {
	sizes := make([]int, len(contenders))
	for i, c := range contenders {
		sizes[i] = batchSize(c)
	}
	return laps(rounds, sizes, contenders)
}

// alternate is race with a batch of one operation. It is for what waits for other
// processes: how quickly those are woken depends on what ran just before, and that
// is then the same for all.
func alternate(rounds int, contenders ...contender) [][]float64 {
	sizes := make([]int, len(contenders))
	for i, c := range contenders {
		batchSize(c) // warms it up
		sizes[i] = 1
	}
	return laps(rounds, sizes, contenders)
}

func laps(rounds int, sizes []int, contenders []contender) [][]float64 {
	times := make([][]float64, len(contenders))
	for range rounds {
		took := make([]time.Duration, len(contenders))
		for i, c := range contenders {
			took[i] += timed(c, sizes[i])
		}
		for i, c := range slices.Backward(contenders) {
			took[i] += timed(c, sizes[i])
		}
		for i := range contenders {
			times[i] = append(times[i], float64(took[i])/float64(2*sizes[i]))
		}
	}
	return times
}

// batchSize warms a contender up and finds how many of its operations take batchTime.
func batchSize(c contender) int {
	for n := 1; ; n *= 2 {
		if took := timed(c, n); took >= batchTime {
			return max(1, int(float64(n)*float64(batchTime)/float64(took)))
		}
	}
}

func timed(c contender, n int) time.Duration {
	began := time.Now()
	c.run(n)
	return time.Since(began)
}

// quiet returns the rounds of a and b that count.
func quiet(a, b []float64) (quietA, quietB []float64) {
	rounds := make([]int, len(a))
	for i := range rounds {
		rounds[i] = i
	}
	// Each is measured by its own usual time, so that neither decides alone.
	usualA, usualB := median(a), median(b)
	took := func(i int) float64 { return a[i]/usualA + b[i]/usualB }
	slices.SortFunc(rounds, func(i, j int) int { return cmp.Compare(took(i), took(j)) })
	for _, i := range rounds[:max(1, int(quietPart*float64(len(rounds))))] {
		quietA, quietB = append(quietA, a[i]), append(quietB, b[i])
	}
	return quietA, quietB
}

// ratio is how a's time compares with b's, round by round.
func ratio(a, b []float64) (value, noise float64) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return center(ratios)
}

// center returns the median and its noise: three standard errors of a median,
// 1.2533·σ/√n with σ = 1.4826·MAD.
func center(values []float64) (value, noise float64) {
	value = median(values)
	deviations := make([]float64, len(values))
	for i, v := range values {
		deviations[i] = math.Abs(v - value)
	}
	sigma := 1.4826 * median(deviations)
	return value, 3 * 1.2533 * sigma / math.Sqrt(float64(len(values)))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// against makes a result of how a compares with b.
func against(what string, a, b []float64, bound float64) result {
	a, b = quiet(a, b)
	value, noise := ratio(a, b)
	return result{
		what: what, value: value, noise: noise, unit: "×", bound: bound,
		detail: usual(a) + " : " + usual(b),
	}
}

func usual(times []float64) string {
	t := time.Duration(median(times))
	if t > time.Microsecond {
		t = t.Round(100 * time.Nanosecond)
	}
	return t.String()
}
