package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/portner/portner/caddymodule/internal/journal"
)

// journalFlags are those of every verb.
type journalFlags struct {
	pool, state              string
	all                      bool
	keyFile, oldKeyFile      string
	address, config, adapter string
}

// journalCommand is `caddy app-proxy journal`: /app_proxy/journal for people.
func journalCommand() *cobra.Command {
	var f journalFlags
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Looks after the writes that are kept",
		Long: `Looks after the writes that a running Caddy keeps for its applications, and after its dead letters: writes
that the application has refused after their clients had been told that they were accepted.

docs/runbook.md says when to use which.`,
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.pool, "pool", "", "The pool's name (default: the only one that has a journal)")
	flags.StringVar(&f.address, "address", "", "The admin endpoint's address, if it is not in the configuration")
	flags.StringVarP(&f.config, "config", "c", "", "Configuration file to take the admin endpoint's address from")
	flags.StringVarP(&f.adapter, "adapter", "a", "", "Name of the configuration's adapter")
	list := journalVerb("list [--state undelivered|dead]", "Lists what is not delivered, or the dead letters; without a state and a pool, all journals", 0, f.list)
	export := journalVerb("export [--state undelivered|dead] > file", "Writes all entries, with their secrets, one JSON object a line", 0, f.export)
	for _, c := range []*cobra.Command{list, export} {
		c.Flags().StringVar(&f.state, "state", "", "undelivered or dead")
	}
	retry := journalVerb("retry <id>|--all", "Delivers a dead letter, or all, once more", 1, func(args []string) error { return f.change("retry", args) })
	drop := journalVerb("drop <id>|--all", "Throws an entry away, or all dead letters: nothing else loses an accepted write", 1, func(args []string) error { return f.change("drop", args) })
	for _, c := range []*cobra.Command{retry, drop} {
		c.Flags().BoolVar(&f.all, "all", false, "All dead letters")
	}
	salvage := journalVerb("salvage <folder> [--key-file <file>] [--old-key-file <file>]",
		"Makes a journal that can be opened of one that cannot, or changes its key; nobody may have it open", 1, f.salvage)
	salvage.Flags().StringVar(&f.keyFile, "key-file", "", "Key file of the journal, as in the configuration")
	salvage.Flags().StringVar(&f.oldKeyFile, "old-key-file", "", "Key file that it was sealed with, if that was another (none: not at all)")
	cmd.AddCommand(list, export, retry, drop, salvage,
		journalVerb("reopen", "Opens a journal that has failed now; by itself that takes up to a minute", 0, f.reopen),
		journalVerb("show <id>", "Shows an entry, with its secrets masked", 1, f.show),
		journalVerb("import < file", "Takes in what export has written; what is there already stays as it is", 0, f.importAll))
	return cmd
}

func journalVerb(use, short string, args int, do func(args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
				if err := do(args); err != nil {
					return 1, fmt.Errorf("app-proxy: journal: %w", err)
				}
				return 0, nil
			})(cmd, args)
		},
	}
}

// ask calls the admin endpoint of the running Caddy.
func (f *journalFlags) ask(method, verb string, query url.Values, body io.Reader) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(f.address, nil, f.config, f.adapter)
	if err != nil {
		return nil, err
	}
	if query == nil {
		query = make(url.Values)
	}
	if f.pool != "" {
		query.Set("pool", f.pool)
	}
	if f.state != "" {
		query.Set("state", f.state)
	}
	path := strings.TrimSuffix("/app_proxy/journal/"+verb, "/")
	return caddycmd.AdminAPIRequest(address, method, path+"?"+query.Encode(), http.Header{"Content-Type": {"application/json"}}, body)
}

func (f *journalFlags) read(method, verb string, query url.Values, into any) error {
	res, err := f.ask(method, verb, query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

func (f *journalFlags) list([]string) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	if f.state == "" && f.pool == "" {
		var all []journalStatus
		if err := f.read(http.MethodGet, "", nil, &all); err != nil {
			return err
		}
		fmt.Fprintln(table, "POOL\tUNDELIVERED\tOLDEST\tDEAD\tBYTES\tOF\tFOLDER\t")
		for _, s := range all {
			name := s.Pool
			if s.Orphan {
				name = "(no pool)"
			}
			fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\n", name, s.Depth, time.Duration(s.Oldest*1e9).Round(time.Second), s.DeadLetters, s.Bytes, s.MaxBytes, s.Folder,
				strings.ReplaceAll(s.Failed, "\n", " "))
		}
		return nil
	}
	fmt.Fprintln(table, "ID\tARRIVED\tREQUEST\tLANE\tBYTES\tATTEMPTS\tREASON\t")
	for after := uint64(0); ; {
		var page []journalEntry
		if err := f.read(http.MethodGet, "list", url.Values{"after": {fmt.Sprint(after)}}, &page); err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			after = e.Seq
			fmt.Fprintf(table, "%s\t%s\t%s %q\t%q\t%d\t%d\t%s\n", e.ID, e.Arrived.Format(time.RFC3339), e.Method, e.URI, e.Lane, e.Bytes, e.Attempts, e.Reason)
		}
	}
}

func (f *journalFlags) show(args []string) error {
	if len(args) == 0 {
		return errors.New("show: expected an id")
	}
	var entry json.RawMessage
	if err := f.read(http.MethodGet, "show", url.Values{"id": args}, &entry); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(entry)
}

func (f *journalFlags) change(verb string, args []string) error {
	query := url.Values{"id": args}
	switch {
	case f.all && len(args) > 0, !f.all && len(args) == 0:
		return fmt.Errorf("%s: expected an id, or --all", verb)
	case f.all:
		query = url.Values{"all": {"dead"}}
	}
	var told struct{ Changed int }
	if err := f.read(http.MethodPost, verb, query, &told); err != nil {
		return err
	}
	fmt.Printf("%s: %d\n", verb, told.Changed)
	return nil
}

func (f *journalFlags) reopen([]string) error {
	var told struct{ Open bool }
	if err := f.read(http.MethodPost, "reopen", nil, &told); err != nil {
		return err
	}
	fmt.Println("it is open")
	return nil
}

// salvage works on the folder itself: a journal that cannot be opened is nobody's.
func (f *journalFlags) salvage(args []string) error {
	dir := ""
	switch {
	case len(args) == 1:
		dir = filepath.Clean(args[0])
	case f.pool != "":
		dir = filepath.Join(journalRoot(), fileName(f.pool))
	default:
		return errors.New("salvage: expected the folder that the log names, or --pool")
	}
	plan, from := journalPlan{keyFile: f.keyFile}, journalPlan{keyFile: f.oldKeyFile}
	to, err := plan.secret()
	if err != nil {
		return err
	}
	was := to
	if f.oldKeyFile != "" {
		if was, err = from.secret(); err != nil {
			return err
		}
	}
	s, err := journal.Salvage(dir, was, journal.Options{Secret: to})
	if err != nil {
		return err
	}
	fmt.Printf("%s: kept %d undelivered entries and %d dead letters\n", dir, s.Undelivered, s.Dead)
	if s.Missing > 0 || len(s.Lost) > 0 {
		fmt.Printf("lost: %d entries\n", s.Missing)
	}
	for _, place := range s.Lost {
		fmt.Printf("cannot be read: %s\n", place)
	}
	fmt.Printf("the journal as it was: %s\n", s.Aside)
	return nil
}

func (f *journalFlags) export([]string) error {
	res, err := f.ask(http.MethodGet, "export", nil, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(os.Stdout, &counted{Reader: res.Body, what: "exported"}); err != nil {
		return fmt.Errorf("export: it is not whole: %w", err)
	}
	fmt.Fprintf(os.Stderr, "exported %s entries\n", res.Trailer.Get(exportedTrailer))
	return nil
}

func (f *journalFlags) importAll([]string) error {
	res, err := f.ask(http.MethodPost, "import", nil, &counted{Reader: os.Stdin, what: "read"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var told struct{ Imported int }
	if err := json.NewDecoder(res.Body).Decode(&told); err != nil {
		return err
	}
	fmt.Printf("imported: %d\n", told.Imported)
	return nil
}

// counted says every few seconds how much went through it.
type counted struct {
	io.Reader
	what  string
	bytes int64
	said  time.Time
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	if c.said.IsZero() {
		c.said = time.Now()
	}
	if time.Since(c.said) > 2*time.Second {
		c.said = time.Now()
		fmt.Fprintf(os.Stderr, "%s %d MB\n", c.what, c.bytes>>20)
	}
	return n, err
}
