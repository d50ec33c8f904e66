package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portner/portner/caddymodule/internal/journal"
)

var appendTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
	Name:    "portner_journal_append_seconds",
	Help:    "Time until a write was on disk.",
	Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
}, []string{"pool"})

// ObserveAppend takes in how long a write took until it was on disk.
func (p *Pool) ObserveAppend(d time.Duration) {
	appendTime.WithLabelValues(p.name).Observe(d.Seconds())
}

// journalState is one number of a journal.
type journalState struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s journal.Stats, add func(value float64, labels ...string))
}

func journalNumber(kind prometheus.ValueType, name, help string, read func(journal.Stats) float64) journalState {
	return journalState{prometheus.NewDesc(name, help, []string{"pool"}, nil), kind,
		func(s journal.Stats, add func(float64, ...string)) { add(read(s)) }}
}

var journalStates = []journalState{
	journalNumber(prometheus.GaugeValue, "portner_journal_depth", "Entries that are not delivered.",
		func(s journal.Stats) float64 { return float64(s.Depth) }),
	journalNumber(prometheus.GaugeValue, "portner_journal_oldest_seconds", "Age of the oldest entry that is not delivered; 0: none.",
		func(s journal.Stats) float64 { return s.Oldest.Seconds() }),
	journalNumber(prometheus.GaugeValue, "portner_journal_dead_letters", "Dead letters.",
		func(s journal.Stats) float64 { return float64(s.DeadLetters) }),
	journalNumber(prometheus.GaugeValue, "portner_journal_bytes", "What undelivered entries and dead letters have on disk.",
		func(s journal.Stats) float64 { return float64(s.Bytes) }),
	journalNumber(prometheus.GaugeValue, "portner_journal_max_bytes", "Most that they may have.",
		func(s journal.Stats) float64 { return float64(s.MaxBytes) }),
	journalNumber(prometheus.GaugeValue, "portner_journal_failed", "1 while the journal takes nothing.",
		func(s journal.Stats) float64 { return number(s.Failed != nil) }),
	journalNumber(prometheus.CounterValue, "portner_journal_appended_total", "Writes that were kept.",
		func(s journal.Stats) float64 { return float64(s.Appended) }),
	journalNumber(prometheus.CounterValue, "portner_journal_attempts_total", "Attempts to send an entry.",
		func(s journal.Stats) float64 { return float64(s.Attempts) }),
	{prometheus.NewDesc("portner_journal_ended_total", "Entries by how they ended: delivered, rejected, dead.", []string{"pool", "outcome"}, nil),
		prometheus.CounterValue, func(s journal.Stats, add func(float64, ...string)) {
			add(float64(s.Delivered), "delivered")
			add(float64(s.Rejected), "rejected")
			add(float64(s.Buried-s.Rejected), "dead")
		}},
	journalNumber(prometheus.CounterValue, "portner_journal_duplicates_total", "Repeats of clients that were answered from the journal.",
		func(s journal.Stats) float64 { return float64(s.Repeats) }),
	journalNumber(prometheus.CounterValue, "portner_journal_refused_total", "Writes that found the journal full or failed.",
		func(s journal.Stats) float64 { return float64(s.Refused) }),
	journalNumber(prometheus.CounterValue, "portner_journal_unreadable_total", "Entries that the disk has spoilt.",
		func(s journal.Stats) float64 { return float64(s.Unreadable) }),
}

// collectJournal tells of the pool's journal, if there is one.
func (p *Pool) collectJournal(ch chan<- prometheus.Metric) {
	if p.journal == nil {
		return
	}
	j := p.journal()
	if j == nil {
		return
	}
	stats := j.Stats()
	for _, s := range journalStates {
		s.read(stats, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, value, append([]string{p.name}, labels...)...)
		})
	}
}
