package front

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// TestContractNamesEveryReason, with its status.
func TestContractNamesEveryReason(t *testing.T) {
	text := contract(t)
	for _, r := range reasons {
		found := false
		for line := range strings.Lines(text) {
			found = found || strings.HasPrefix(line, "|") && strings.Contains(line, "`"+r.reason+"`") && strings.Contains(line, fmt.Sprintf("| %d |", r.status))
		}
		if !found {
			t.Errorf("%s (%d) is not in the table", r.reason, r.status)
		}
	}
}

// TestContractNamesEveryFieldThatIsMade for the application.
func TestContractNamesEveryFieldThatIsMade(t *testing.T) {
	text := contract(t)
	var o onward
	o.prepare(httptest.NewRequest(http.MethodGet, "/", nil), time.Now(), false)
	for _, f := range o.made {
		if !strings.Contains(text, "`"+f.Name) {
			t.Errorf("%s is not in it", f.Name)
		}
	}
}

func contract(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/contract.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
