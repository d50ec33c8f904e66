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

// decayEvery spares the exponential for requests that come at once; a thousandth
// of demandTime is no error.
const decayEvery = demandTime / 1000

func (d *demand) decay(now time.Time) {
	past := now.Sub(d.at)
	if past < decayEvery {
		return
	}
	if d.sum > 0 {
		d.sum *= math.Exp(-past.Seconds() / demandTime.Seconds())
	}
	d.at = now
}
