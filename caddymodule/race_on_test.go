//go:build race

package caddymodule_test

// underRace is for tests that measure.
const underRace = true
