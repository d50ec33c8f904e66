package front

import (
	"net/http"
	"strings"
	"testing"

	"github.com/portner/portner/caddymodule/internal/admission"
)

func TestApplicationIsUnderstood(t *testing.T) {
	type report = admission.Report
	for _, c := range []struct {
		load, orca string
		want       report
	}{
		{"", "", report{}},
		{"75%", "", report{Percent: 75}},
		{"100%", "", report{Percent: 100}},
		{"maxconn:30", "", report{Limit: 30}},
		{"drain", "", report{Drain: true}},
		{"maint", "", report{Drain: true}},
		{"down", "", report{Drain: true}},
		{"stopped", "", report{Drain: true}},
		{"fail", "", report{Drain: true}},
		{"ready", "", report{Ready: true}},
		{"up", "", report{Ready: true}},
		{"up, 75%\tmaxconn:30", "", report{Ready: true, Percent: 75, Limit: 30}},
		{"drain ready", "", report{Ready: true}}, // the last word
		{"ready drain", "", report{Drain: true}},

		{"maxconn:", "", report{}},
		{"maxconn:0", "", report{}},
		{"maxconn:-1", "", report{}},
		{"maxconn:70000", "", report{}},
		{"maxconn:x", "", report{}},
		{"%", "", report{}},
		{"0%", "", report{}},
		{"-5%", "", report{}},
		{"1e2%", "", report{}},
		{"DRAIN, draining, nonsense,,", "", report{}},

		{"", "TEXT application_utilization=1.5, cpu_utilization=0.3", report{Utilization: 1.5}},
		{"", "TEXT cpu_utilization=0.3,mem_utilization=0.9,named_metrics.x=7", report{Utilization: .3}},
		{"", "text cpu_utilization = 0.3", report{Utilization: .3}},
		{"", `JSON {"application_utilization": 1.5, "cpu_utilization": 0.3}`, report{Utilization: 1.5}},
		{"", `JSON {"cpu_utilization": 0.3, "named_metrics": {"x": 7}}`, report{Utilization: .3}},
		{"", `JSON {"cpuUtilization": 0.3}`, report{Utilization: .3}},

		{"", "TEXT", report{}},
		{"", "TEXT cpu_utilization=NaN", report{}},
		{"", "TEXT cpu_utilization=-1", report{}},
		{"", "TEXT cpu_utilization=+Inf", report{}},
		{"", "TEXT cpu_utilization=1e300", report{}},
		{"", "TEXT cpu_utilization", report{}},
		{"", "JSON", report{}},
		{"", "JSON {", report{}},
		{"", `JSON ["cpu_utilization", 1]`, report{}},
		{"", `JSON {"cpu_utilization": "0.3"}`, report{}},
		{"", "cpu_utilization=0.3", report{}},
		{"", "BIN AAAA", report{}},

		{"50%", "TEXT cpu_utilization=0.3", report{Percent: 50, Utilization: .3}},
	} {
		h := http.Header{"X-Mine": {"stays"}}
		h.Set("Portner-Load", c.load)
		h.Set("Endpoint-Load-Metrics", c.orca)
		h.Set("Endpoint-Load-Metrics-Bin", "CQAAAAAAAPA/")
		if got := takeReport(h); got != c.want {
			t.Errorf("%q, %q: %+v, want %+v", c.load, c.orca, got, c.want)
		}
		if len(h) != 1 {
			t.Errorf("%q, %q: the client would see %v", c.load, c.orca, h)
		}
	}
}

func FuzzReportIsInBounds(f *testing.F) {
	f.Add("75%, maxconn:30 drain", `JSON {"cpu_utilization": 0.3}`)
	f.Add("ready", "TEXT application_utilization=1.5, cpu_utilization=0.3")
	f.Fuzz(func(t *testing.T, load, orca string) {
		h := http.Header{"Portner-Load": {load}, "Endpoint-Load-Metrics": {orca}}
		r := takeReport(h)
		if r.Limit < 0 || r.Limit > 1<<16 || r.Percent < 0 || r.Percent > 1<<16 || !(r.Utilization >= 0 && r.Utilization < 1000) || r.Drain && r.Ready || len(h) != 0 {
			t.Errorf("%+v, left %v", r, h)
		}
	})
}

func TestOurHeadersAreDroppedWhateverTheirCase(t *testing.T) {
	h := make(http.Header)
	for _, name := range []string{"portner-load", "PORTNER-ATTEMPT", "Portner-X", "X-Portner-Y", "Portner"} {
		h.Set(name, "1")
	}
	dropOurs(h)
	var left []string
	for name := range h {
		left = append(left, name)
	}
	if len(left) != 2 || strings.HasPrefix(left[0], "Portner-") || strings.HasPrefix(left[1], "Portner-") {
		t.Errorf("left: %v", left)
	}
}
