//go:build !linux

package caddymodule

import "github.com/caddyserver/caddy/v2"

// listenForHandover does nothing: see handover_linux.go.
func listenForHandover(caddy.Context) error { return nil }
