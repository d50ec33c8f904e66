//go:build !linux

package caddymodule

// machineMemory is not known here: a gibibyte is assumed.
func machineMemory() int64 { return 1 << 30 }
