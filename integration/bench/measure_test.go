package main

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestQuietRoundsLeaveOutliersOut(t *testing.T) {
	a := []float64{10, 90, 11, 10, 12, 10, 10, 50}
	b := []float64{20, 20, 20, 21, 20, 95, 20, 20}
	quietA, quietB := quiet(a, b)
	if len(quietA) != 2 || slices.Max(quietA) > 10 || slices.Max(quietB) > 20 {
		t.Errorf("quiet rounds %v and %v", quietA, quietB)
	}
}

func TestRatioIgnoresDriftAndOutliers(t *testing.T) {
	var a, b []float64
	for i := range 100 {
		pace := 1 + float64(i)/10 // the machine becomes eleven times slower
		jitter := 0.01 * float64(i%5-2)
		a = append(a, 120*pace*(1+jitter))
		b = append(b, 100*pace)
		if i%20 == 0 {
			a[i] *= 50 // and stalls now and then
		}
	}
	value, noise := ratio(quiet(a, b))
	if math.Abs(value-1.2) > 0.01 || noise <= 0 || noise > 0.02 {
		t.Errorf("ratio = %v ± %v, want about 1.2", value, noise)
	}
}

func TestAlternate(t *testing.T) {
	var order []string
	one := func(name string) contender {
		return contender{name, func(n int) {
			if n == 1 {
				order = append(order, name)
			} else {
				order = nil // warming up
			}
			for began := time.Now(); time.Since(began) < time.Duration(n)*100*time.Microsecond; {
			}
		}}
	}
	a, b := one("a"), one("b")
	times := alternate(3, a, b)
	if got := strings.Join(order[len(order)-12:], ""); got != "abbaabbaabba" || len(times[0]) != 3 || len(times[1]) != 3 {
		t.Errorf("order %s, times %v", got, times)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		r      result
		want   string
		missed bool
	}{
		{result{value: 1.2, bound: 1.3}, "ok", false},
		{result{value: 1.31, noise: 0.02, bound: 1.3}, "within noise", false},
		{result{value: 1.33, noise: 0.02, bound: 1.3}, "MISSED", true},
		{result{value: 1, bound: 0}, "MISSED", true},
		{result{value: 1e9, bound: unbounded}, "", false},
	} {
		if got := c.r.verdict(); got != c.want || c.r.missed() != c.missed {
			t.Errorf("%+v: verdict %q, missed %v; want %q, %v", c.r, got, c.r.missed(), c.want, c.missed)
		}
	}
}

func TestMissIsMeasuredAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64 // of the measurements, in order
		want   float64
	}{
		{"good at once", []float64{1}, 1},
		{"good the second time", []float64{3, 1}, 1},
		{"bad twice", []float64{3, 4}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			results, err := measureTwiceIfMissed(row{measure: func() ([]result, error) {
				n++
				return []result{{value: c.values[n-1], bound: 2}}, nil
			}})
			if err != nil || n != len(c.values) || results[0].value != c.want {
				t.Errorf("measured %d times, got %v (%v), want %v after %d", n, results, err, c.want, len(c.values))
			}
		})
	}
}

func TestPrintResults(t *testing.T) {
	var out bytes.Buffer
	err := printResults(&out, []result{
		{what: "fast", value: 1.25, noise: 0.01, unit: "×", bound: 1.3, detail: "52ns : 41ns"},
		{what: "for comparison", value: 4, unit: "×", bound: unbounded},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.250× ± 0.010", "≤ 1.300×", "ok", "52ns : 41ns", "for comparison  4×"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
