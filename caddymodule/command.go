package caddymodule

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "app-proxy",
		Usage: "<verb>",
		Short: "Looks after what app_proxy keeps",
		Long:  "Looks after what app_proxy keeps, in a running Caddy, by its admin endpoint.",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(purgeCommand(), journalCommand())
		},
	})
}
