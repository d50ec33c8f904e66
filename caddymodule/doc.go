// Package caddymodule is the shell of Portner: the only package that knows
// Caddy. It reads the Caddyfile, keeps what outlives a reload, and hands each
// request to the chapters below internal/.
package caddymodule
