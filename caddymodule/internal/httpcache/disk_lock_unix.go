//go:build unix

package httpcache

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens a file that nobody else may have open until it is closed, by
// whatever end of the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrDiskInUse
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// syncDir makes the names of new files last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
