package main

import (
	"math"
	"slices"
	"syscall"
	"time"
)

// report is what is printed; times are of whole exchanges, from the first byte sent to the last byte read.
type report struct {
	Requests          int     `json:"requests"`
	Seconds           float64 `json:"seconds"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	P50               float64 `json:"p50_ms"`
	P90               float64 `json:"p90_ms"`
	P99               float64 `json:"p99_ms"`
	Max               float64 `json:"max_ms"`
	Errors            int     `json:"errors"`
	FirstError        string  `json:"first_error,omitempty"`
	// LoadSeconds is the processor time of this program while it measured: near Seconds it was itself the bottleneck.
	LoadSeconds float64 `json:"load_cpu_seconds"`
}

func newReport(all []*connection, duration, used time.Duration) *report {
	made := &report{Seconds: duration.Seconds(), LoadSeconds: used.Seconds()}
	var latencies []time.Duration
	for _, one := range all {
		latencies = append(latencies, one.latencies...)
		made.Errors += one.errors
		if one.firstError != nil && made.FirstError == "" {
			made.FirstError = one.firstError.Error()
		}
	}
	slices.Sort(latencies)
	made.Requests = len(latencies)
	made.RequestsPerSecond = float64(len(latencies)) / duration.Seconds()
	made.P50, made.P90 = percentile(latencies, 0.50), percentile(latencies, 0.90)
	made.P99, made.Max = percentile(latencies, 0.99), percentile(latencies, 1)
	return made
}

// percentile returns the nearest rank of sorted times in milliseconds, 0 of none.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := max(0, int(math.Ceil(share*float64(len(sorted))))-1)
	return float64(sorted[rank]) / float64(time.Millisecond)
}

// processorTime returns what this process has used so far.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
