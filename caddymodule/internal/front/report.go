package front

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// takeReport reads what the application says of itself in an answer, and takes
// it out of the answer: docs/contract.md. Broken words say nothing.
func takeReport(h http.Header) admission.Report {
	var r admission.Report
	for _, line := range h["Portner-Load"] {
		agentWords(line, &r)
	}
	for _, line := range h["Endpoint-Load-Metrics"] {
		r.Utilization = utilization(line)
	}
	delete(h, "Portner-Load")
	delete(h, "Endpoint-Load-Metrics")
	delete(h, "Endpoint-Load-Metrics-Bin") // the same for programs, and nobody's business either
	return r
}

// agentWords reads the words of HAProxy's agent check (configuration manual,
// agent-check): 75%, maxconn:30, drain, maint, ready, up, down, stopped.
func agentWords(line string, r *admission.Report) {
	for _, word := range strings.FieldsFunc(line, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
		switch word {
		case "drain", "maint", "down", "stopped", "fail":
			r.Drain, r.Ready = true, false
		case "ready", "up":
			r.Drain, r.Ready = false, true
		default:
			if text, ok := strings.CutSuffix(word, "%"); ok {
				if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
					r.Percent = int(n)
				}
			} else if text, ok := strings.CutPrefix(word, "maxconn:"); ok {
				if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
					r.Limit = int(n)
				}
			}
		}
	}
}

// utilization reads application_utilization, else cpu_utilization, of an ORCA
// load report (xDS: Open Request Cost Aggregation) in its text or JSON form. In
// JSON the names may also be written as protobuf writes them.
func utilization(line string) float64 {
	values := make(map[string]float64)
	kind, text, _ := strings.Cut(line, " ")
	switch strings.ToUpper(kind) {
	case "JSON":
		var all map[string]any
		if json.Unmarshal([]byte(text), &all) != nil {
			return 0
		}
		for name, value := range all {
			if x, ok := value.(float64); ok {
				values[name] = x
			}
		}
	case "TEXT":
		for pair := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(pair, "=")
			if x, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				values[strings.TrimSpace(name)] = x
			}
		}
	}
	for _, name := range []string{"application_utilization", "applicationUtilization", "cpu_utilization", "cpuUtilization"} {
		if u := values[name]; u > 0 && u < 1000 {
			return u
		}
	}
	return 0
}
