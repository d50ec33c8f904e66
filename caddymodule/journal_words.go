package caddymodule

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"
)

func parseJournalDir(h *Handler, d *caddyfile.Dispenser) error {
	if d.NextArg() {
		h.JournalDir = d.Val()
	}
	if err := lastArg(d, "journal_dir"); err != nil {
		return err
	}
	said, err := parseWords(d, "journal_dir", map[string]func() error{
		"key_file": func() error {
			if !d.NextArg() || d.Val() == "" {
				return d.Err("app_proxy: journal_dir key_file: expected a file")
			}
			h.JournalKeyFile = d.Val()
			return lastArg(d, "journal_dir key_file")
		},
	})
	if err == nil && said == 0 && h.JournalDir == "" {
		return d.Err("app_proxy: journal_dir: expected a folder")
	}
	return err
}

// parseJournal parses what is behind the word in a route. The block may be missing.
func parseJournal(d *caddyfile.Dispenser, c *RouteConfig) error {
	if err := lastArg(d, "journal"); err != nil {
		return err
	}
	j := new(JournalConfig)
	c.Journal = j
	_, err := parseWords(d, "journal", map[string]func() error{
		"answer_within": func() (err error) {
			j.AnswerWithin, err = parseDuration(d, "journal answer_within")
			return err
		},
		"respond": func() error { return parseRespond(d, j) },
		"always": func() error {
			j.Always = true
			return lastArg(d, "journal always")
		},
		"lane": func() error {
			if !d.NextArg() || !strings.Contains(d.Val(), "{") {
				return d.Err("app_proxy: journal lane: expected a placeholder, such as {http.request.header.X-Account}")
			}
			j.Lane = d.Val()
			return lastArg(d, "journal lane")
		},
		"max_age": func() error { return parsePositive(d, "journal max_age", &j.MaxAge) },
		"max_bytes": func() (err error) {
			if !d.NextArg() {
				return d.Err("app_proxy: journal max_bytes: expected a size, such as 1GiB")
			}
			if j.MaxBytes, err = parseSize(d.Val()); err != nil {
				return d.Errf("app_proxy: journal max_bytes: %w", err)
			}
			return lastArg(d, "journal max_bytes")
		},
		"per_client": func() error {
			if !d.NextArg() || d.Val() != "on" && d.Val() != "off" {
				return d.Err("app_proxy: journal per_client: expected on or off")
			}
			j.PerClientOff = d.Val() == "off"
			return lastArg(d, "journal per_client")
		},
		"keep_answers": func() (err error) {
			j.KeepAnswers, err = parseDuration(d, "journal keep_answers")
			return err
		},
		"omit_headers": func() error {
			if j.OmitHeaders = d.RemainingArgs(); len(j.OmitHeaders) == 0 {
				return d.Err("app_proxy: journal omit_headers: expected names of headers")
			}
			for _, name := range j.OmitHeaders {
				if !httpguts.ValidHeaderFieldName(name) {
					return d.Errf("app_proxy: journal omit_headers: expected names of headers, got '%s'", name)
				}
			}
			return nil
		},
	})
	return err
}

func parseRespond(d *caddyfile.Dispenser, j *JournalConfig) error {
	if !d.NextArg() {
		return d.Err("app_proxy: journal respond: expected a status, such as 200, and perhaps a text")
	}
	n, err := strconv.Atoi(d.Val())
	if err != nil || n < 200 || n > 299 {
		return d.Errf("app_proxy: journal respond: expected a status from 200 to 299, got '%s'", d.Val())
	}
	j.Respond = n
	if d.NextArg() {
		j.Body = d.Val()
	}
	return lastArg(d, "journal respond")
}
