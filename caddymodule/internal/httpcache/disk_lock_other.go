//go:build !unix

package httpcache

import "os"

// lockFile opens the file. Nobody is kept from having the folder twice here.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// syncDir: there is no such thing here.
func syncDir(string) error { return nil }
