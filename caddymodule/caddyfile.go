package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/dustin/go-humanize"
	"golang.org/x/net/http/httpguts"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("app_proxy", parseAppProxy)
	httpcaddyfile.RegisterDirectiveOrder("app_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// words are ours, in the order of docs/caddyfile.md. Every other word belongs to
// reverse_proxy.
var words = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"name":        parseName,
	"concurrency": parseConcurrency,
	"queue":       parseQueue,
	"hold":        parseHold,
	"cache":       parseCache,
	"buffer":      parseBuffer,
	"timeouts":    parseTimeouts,

	"class":           parseClass,
	"route":           parseRoute,
	"deadline_header": parseDeadlineHeader,
	"server_timing":   parseServerTiming,
	"direct":          parseDirect,
	"sendfile_root":   parseSendfileRoot,
	"journal_dir":     parseJournalDir,
}

// parseAppProxy parses
//
//	app_proxy [<matcher>] [<upstreams...>] {
//	    name        <name>
//	    concurrency <n>|auto
//	    queue {
//	        wait    <duration>
//	        depth   <n>
//	        fair_by <placeholder>|off
//	    }
//	    hold <duration>
//	    cache [<size>] {
//	        object    <size>
//	        stale     <duration>
//	        heuristic <duration>
//	        compress  on|off
//	        disk      <size> [<folder>]
//	    }
//	    buffer {
//	        request  <memory> [<max>|unlimited]
//	        response <memory> [<max>|unlimited]
//	        min_rate <size> [<duration>]|off
//	    }
//	    timeouts {
//	        connect    <duration>
//	        first_byte <duration>
//	        whole      <duration>
//	        abandon    <duration>
//	    }
//	    class <name> {
//	        weight <n>
//	        wait   <duration>
//	    }
//	    route <method> <pattern> {
//	        class <name>
//	        wait  <duration>
//	        cost  <duration>
//	        cache <duration>|off
//	        journal {
//	            answer_within <duration>
//	            respond       <status> [<body>]
//	            always
//	            lane          <placeholder>
//	            max_age       <duration>
//	            max_bytes     <size>
//	            per_client    on|off
//	            keep_answers  <duration>
//	            omit_headers  <names...>
//	        }
//	        respond_status
//	    }
//	    deadline_header <name>
//	    server_timing   off
//	    direct          off
//	    sendfile_root   <dir>
//	    journal_dir     <dir>
//	    <any word of reverse_proxy>
//	}
func parseAppProxy(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := &Handler{ReverseProxy: new(reverseproxy.Handler)}
	d := helper.Dispenser
	d.Next()
	directive := d.Token()
	place := fmt.Sprintf("%s:%d", d.File(), d.Line())

	rest := []caddyfile.Token{directive} // what reverse_proxy is to read
	for d.NextArg() {
		rest = append(rest, d.Token())
	}
	open := d.Token()
	open.Text = "{"
	rest = append(rest, open)
	seen := make(map[string]bool)
	for d.NextBlock(0) {
		word := d.Val()
		parse, ours := words[word]
		if !ours {
			rest = append(rest, d.NextSegment()...)
			continue
		}
		if seen[word] && word != "class" && word != "route" {
			return nil, d.Errf("app_proxy: %s is said twice", word)
		}
		seen[word] = true
		if err := parse(h, d); err != nil {
			return nil, err
		}
	}
	end := d.Token()
	end.Text, end.Line = "}", end.Line+1
	rest = append(rest, end)

	if err := h.ReverseProxy.UnmarshalCaddyfile(caddyfile.NewDispenser(rest)); err != nil {
		return nil, explain(err)
	}
	if err := h.ReverseProxy.FinalizeUnmarshalCaddyfile(helper); err != nil {
		return nil, explain(err)
	}
	for _, note := range h.absorb() {
		warn(helper, directive, note)
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("%w, at %s", err, place)
	}
	if _, err := h.table(); err != nil {
		return nil, fmt.Errorf("%w, at %s", err, place)
	}
	return h, h.claimName(helper.State, place)
}

// explain adds to reverse_proxy's error about a word that it does not know which
// words there are.
func explain(err error) error {
	if !strings.Contains(err.Error(), "unrecognized subdirective") {
		return fmt.Errorf("app_proxy: %w", err)
	}
	ours := make([]string, 0, len(words))
	for word := range words {
		ours = append(ours, word)
	}
	slices.Sort(ours)
	return fmt.Errorf("app_proxy: %w; expected %s, or a word of reverse_proxy", err, strings.Join(ours, ", "))
}

// claimName keeps two handlers from meaning different things by one name. State
// is shared by all directives of a Caddyfile.
func (h *Handler) claimName(state map[string]any, place string) error {
	type claim struct{ settings, place string }
	const key = "app_proxy.pools"
	claims, _ := state[key].(map[string]claim)
	if claims == nil {
		claims = make(map[string]claim)
		state[key] = claims
	}
	settings, err := h.settings()
	if err != nil {
		return err
	}
	name := h.Name
	if name == "" {
		name = h.defaultName()
	}
	known, ok := claims[name]
	if ok && known.settings != settings {
		return fmt.Errorf("app_proxy: the pool %s at %s has other settings than at %s; make them the same, or give one of them another name",
			name, place, known.place)
	}
	if !ok {
		claims[name] = claim{settings, place}
	}
	return nil
}

func parseName(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() || d.Val() == "" {
		return d.Err("app_proxy: name: expected a name for the pool")
	}
	h.Name = d.Val()
	return lastArg(d, "name")
}

func parseConcurrency(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("app_proxy: concurrency: expected a number, or auto")
	}
	if d.Val() != "auto" {
		n, err := strconv.Atoi(d.Val())
		if err != nil || n < 1 {
			return d.Errf("app_proxy: concurrency: expected a whole number of at least 1, or auto, got '%s'", d.Val())
		}
		h.Concurrency = n
	}
	return lastArg(d, "concurrency")
}

func parseDeadlineHeader(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() || !httpguts.ValidHeaderFieldName(d.Val()) {
		return d.Err("app_proxy: deadline_header: expected the name of a header")
	}
	h.DeadlineHeader = d.Val()
	return lastArg(d, "deadline_header")
}

func parseServerTiming(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() || d.Val() != "on" && d.Val() != "off" {
		return d.Err("app_proxy: server_timing: expected on or off")
	}
	h.HideTiming = d.Val() == "off"
	return lastArg(d, "server_timing")
}

func parseDirect(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() || d.Val() != "on" && d.Val() != "off" {
		return d.Err("app_proxy: direct: expected on or off")
	}
	h.DirectOff = d.Val() == "off"
	return lastArg(d, "direct")
}

func parseSendfileRoot(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() || d.Val() == "" {
		return d.Err("app_proxy: sendfile_root: expected a folder")
	}
	h.SendfileRoot = d.Val()
	return lastArg(d, "sendfile_root")
}

func parseHold(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.Hold, err = parseDuration(d, "hold")
	return err
}

func parseQueue(h *Handler, d *caddyfile.Dispenser) error {
	h.Queue = new(QueueConfig)
	return parseBlock(d, "queue", map[string]func() error{
		"wait": func() (err error) {
			h.Queue.Wait, err = parseDuration(d, "queue wait")
			return err
		},
		"depth": func() (err error) {
			h.Queue.Depth, err = parseCount(d, "queue depth")
			return err
		},
		"fair_by": func() error {
			if !d.NextArg() {
				return d.Err("app_proxy: queue fair_by: expected a placeholder, such as {client_ip}, or off")
			}
			if h.Queue.FairBy = d.Val(); h.Queue.FairBy != "off" && !strings.Contains(h.Queue.FairBy, "{") {
				return d.Errf("app_proxy: queue fair_by: expected a placeholder, such as {client_ip}, or off, got '%s'", d.Val())
			}
			return lastArg(d, "queue fair_by")
		},
	})
}

func parseBuffer(h *Handler, d *caddyfile.Dispenser) error {
	h.Buffer = new(BufferConfig)
	return parseBlock(d, "buffer", map[string]func() error{
		"request": func() error {
			h.Buffer.Request = new(BodyBuffer)
			return parseBodyBuffer(d, "buffer request", h.Buffer.Request)
		},
		"response": func() error {
			h.Buffer.Response = new(BodyBuffer)
			return parseBodyBuffer(d, "buffer response", h.Buffer.Response)
		},
		"min_rate": func() error { return parseMinRate(d, h.Buffer) },
	})
}

func parseMinRate(d *caddyfile.Dispenser, b *BufferConfig) (err error) {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "off":
		b.MinRate = -1
		return nil
	case len(args) < 1 || len(args) > 2:
		return d.Errf("app_proxy: buffer min_rate: expected bytes a second and a duration, such as 500B 20s, or off, got %d arguments", len(args))
	}
	if b.MinRate, err = parseSize(args[0]); err != nil {
		return d.Errf("app_proxy: buffer min_rate: %w", err)
	}
	if len(args) == 2 {
		over, err := caddy.ParseDuration(args[1])
		if err != nil || over <= 0 {
			return d.Errf("app_proxy: buffer min_rate: expected a duration, such as 20s, got '%s'", args[1])
		}
		b.MinRateOver = caddy.Duration(over)
	}
	return nil
}

func parseBodyBuffer(d *caddyfile.Dispenser, name string, b *BodyBuffer) (err error) {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.Errf("app_proxy: %s: expected <memory> [<max>|unlimited], such as 64KiB 10MiB, got %d arguments", name, len(args))
	}
	if b.Memory, err = parseSize(args[0]); err != nil {
		return d.Errf("app_proxy: %s: %w", name, err)
	}
	if len(args) == 2 && args[1] == "unlimited" {
		b.Max = -1
	} else if len(args) == 2 {
		if b.Max, err = parseSize(args[1]); err != nil {
			return d.Errf("app_proxy: %s: %w", name, err)
		}
		if b.Max < b.Memory {
			return d.Errf("app_proxy: %s: the maximum %s is smaller than the memory %s", name, args[1], args[0])
		}
	}
	return nil
}

func parseTimeouts(h *Handler, d *caddyfile.Dispenser) error {
	h.Timeouts = new(TimeoutConfig)
	return parseBlock(d, "timeouts", map[string]func() error{
		"connect": func() error { return parsePositive(d, "timeouts connect", &h.Timeouts.Connect) },
		"abandon": func() error { return parsePositive(d, "timeouts abandon", &h.Timeouts.Abandon) },
		"first_byte": func() (err error) {
			h.Timeouts.FirstByte, err = parseDuration(d, "timeouts first_byte")
			return err
		},
		"whole": func() (err error) {
			h.Timeouts.Whole, err = parseDuration(d, "timeouts whole")
			return err
		},
	})
}

func parsePositive(d *caddyfile.Dispenser, name string, into *caddy.Duration) error {
	duration, err := parseDuration(d, name)
	if err != nil {
		return err
	}
	if *duration == 0 {
		return d.Errf("app_proxy: %s: must be longer than 0", name)
	}
	*into = *duration
	return nil
}

// parseBlock parses { … } with one word a line.
func parseBlock(d *caddyfile.Dispenser, name string, words map[string]func() error) error {
	if d.NextArg() {
		return d.Errf("app_proxy: %s: expected a block { … }, got '%s'", name, d.Val())
	}
	said, err := parseWords(d, name, words)
	if err == nil && said == 0 {
		return d.Errf("app_proxy: %s: expected a block { … } with %s", name, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
	}
	return err
}

// parseWords parses { … }, which may be missing, and counts the words in it.
func parseWords(d *caddyfile.Dispenser, name string, words map[string]func() error) (said int, err error) {
	expected := make([]string, 0, len(words))
	for word := range words {
		expected = append(expected, word)
	}
	slices.Sort(expected)
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		parse, ok := words[word]
		if !ok {
			return 0, d.Errf("app_proxy: %s: unknown word '%s'; expected %s", name, word, strings.Join(expected, ", "))
		}
		if seen[word] {
			return 0, d.Errf("app_proxy: %s: %s is said twice", name, word)
		}
		seen[word] = true
		if err := parse(); err != nil {
			return 0, err
		}
	}
	return len(seen), nil
}

func parseCount(d *caddyfile.Dispenser, name string) (int, error) {
	if !d.NextArg() {
		return 0, d.Errf("app_proxy: %s: expected a number", name)
	}
	n, err := strconv.Atoi(d.Val())
	if err != nil || n < 1 {
		return 0, d.Errf("app_proxy: %s: expected a whole number of at least 1, got '%s'", name, d.Val())
	}
	return n, lastArg(d, name)
}

func parseDuration(d *caddyfile.Dispenser, name string) (*caddy.Duration, error) {
	if !d.NextArg() {
		return nil, d.Errf("app_proxy: %s: expected a duration, such as 5s", name)
	}
	v, err := caddy.ParseDuration(d.Val())
	if d.Val() == "0" {
		v, err = 0, nil
	}
	if err != nil || v < 0 {
		return nil, d.Errf("app_proxy: %s: expected a duration, such as 5s, got '%s'", name, d.Val())
	}
	duration := caddy.Duration(v)
	return &duration, lastArg(d, name)
}

func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n < 1 || n > 1<<50 {
		return 0, fmt.Errorf("expected a size, such as 64KiB, got '%s'", text)
	}
	return int64(n), nil
}

func lastArg(d *caddyfile.Dispenser, name string) error {
	if d.NextArg() {
		return d.Errf("app_proxy: %s: unexpected '%s'", name, d.Val())
	}
	return nil
}

// warn makes an adapt warning. Helper keeps its list to itself, and offers no way to
// add to it but a value that cannot be encoded, of which it says so. So the list is
// taken from it; should it have another name one day, the second way remains.
func warn(helper httpcaddyfile.Helper, at caddyfile.Token, note string) {
	w := caddyconfig.Warning{File: at.File, Line: at.Line, Directive: "app_proxy", Message: note}
	list := reflect.ValueOf(helper).FieldByName("warnings")
	if !list.IsValid() || list.Type() != reflect.TypeFor[*[]caddyconfig.Warning]() || list.IsNil() {
		helper.JSON(warning(w.String()))
		return
	}
	warnings := (*[]caddyconfig.Warning)(list.UnsafePointer())
	*warnings = append(*warnings, w)
}

type warning string

func (w warning) MarshalJSON() ([]byte, error) { return nil, errors.New(string(w)) }

var _ json.Marshaler = warning("")
