package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// purgeCommand is `caddy app-proxy purge`: POST /app_proxy/purge for people.
func purgeCommand() *cobra.Command {
	var order purgeOrder
	var address, config, adapter string
	cmd := &cobra.Command{
		Use:   "purge [--pool <name>] [--url <url>]... [--tag <tag>]... [--soft] [--all]",
		Short: "Makes the cache forget pages",
		Long: `Makes the cache of a running Caddy forget what it has under a URL or a tag, in one pool or in all. When the
command returns nobody gets it any more, not even from an answer that was under way.

With --soft it becomes stale instead: it is asked about, and may stand in as stale pages may.`,
		Example: `  caddy app-proxy purge --url https://news.example.com/newest
  caddy app-proxy purge --pool news --tag front --soft`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			if err := order.check(); err != nil {
				return 1, err
			}
			told, err := order.send(address, config, adapter)
			if err != nil {
				return 1, err
			}
			fmt.Println("purged in", strings.Join(told, ", "))
			return 0, nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&order.Pool, "pool", "", "The pool's name (default: all)")
	f.StringArrayVar(&order.URLs, "url", nil, "A URL with scheme and host; may be said again")
	f.StringArrayVar(&order.Tags, "tag", nil, "A tag; may be said again")
	f.BoolVar(&order.Soft, "soft", false, "Let it become stale instead")
	f.BoolVar(&order.All, "all", false, "Everything")
	f.StringVar(&address, "address", "", "The admin endpoint's address, if it is not in the configuration")
	f.StringVarP(&config, "config", "c", "", "Configuration file to take the admin endpoint's address from")
	f.StringVarP(&adapter, "adapter", "a", "", "Name of the configuration's adapter")
	return cmd
}

// send gives the order to a running Caddy, and returns the pools that were told.
func (o *purgeOrder) send(address, config, adapter string) ([]string, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter)
	if err != nil {
		return nil, fmt.Errorf("app-proxy: purge: %w", err)
	}
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("app-proxy: purge: %w", err)
	}
	res, err := caddycmd.AdminAPIRequest(address, http.MethodPost, "/app_proxy/purge",
		http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("app-proxy: purge: %w", err)
	}
	defer res.Body.Close()
	var answer struct{ Purged []string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("app-proxy: purge: %w", err)
	}
	if len(answer.Purged) == 0 {
		return nil, errors.New("app-proxy: purge: nobody has a cache")
	}
	return answer.Purged, nil
}
