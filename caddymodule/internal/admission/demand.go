package admission

import (
	"math"
	"time"
)

// demand is how many slots some requests would keep busy: their expected cost a
// second, averaged over about demandTime.
type demand struct {
	sum float64 // seconds of cost, decayed
	at  time.Time
}

const demandTime = 2 * time.Second

func (d *demand) add(now time.Time, cost time.Duration) {
	d.decay(now)
	d.sum += cost.Seconds()
}

func (d *demand) slots(now time.Time) float64 {
	d.decay(now)
	return d.sum / demandTime.Seconds()
}

func (d *demand) decay(now time.Time) {
	if past := now.Sub(d.at); past > 0 && !d.at.IsZero() {
		d.sum *= math.Exp(-past.Seconds() / demandTime.Seconds())
	}
	d.at = now
}
