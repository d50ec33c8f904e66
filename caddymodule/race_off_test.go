//go:build !race

package caddymodule_test

const underRace = false
