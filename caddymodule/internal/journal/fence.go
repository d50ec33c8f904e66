package journal

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fencedFS stands between Pebble and the disk. The first change that the disk
// refuses marks the engine failed, and from then on no change reaches the disk,
// while Pebble is told that all went well.
//
// Told the truth, Pebble could not be survived: a log that cannot be closed or
// made is a panic with its mutex in a state in which unlocking it is fatal to
// the process (rotateWAL in v2.1.7), and a flush that fails is begun again at
// once, for ever. Told a lie, it closes in order. Nobody else believes the lie:
// engine.with asks for failures after every call. For the disk it is a power cut.
//
// Until the engine is open, errors are passed on: pebble.Open returns them.
type fencedFS struct {
	vfs.FS
	e *engine
}

// change makes a change on the disk, or does not.
func (e *engine) change(do func() error) error {
	if e.err() != nil {
		return nil
	}
	err := do()
	if err == nil || !e.armed.Load() {
		return err
	}
	e.fail(err)
	return nil
}

// file makes a file on the disk, or one that keeps nothing.
func (f *fencedFS) file(create func() (vfs.File, error)) (vfs.File, error) {
	var made vfs.File
	err := f.e.change(func() (err error) { made, err = create(); return err })
	if err != nil {
		return nil, err
	}
	if made == nil {
		made = &nowhere{vfs.NewMemFile(nil)}
	}
	return &fencedFile{File: made, e: f.e}, nil
}

func (f *fencedFS) Unwrap() vfs.FS { return f.FS }

func (f *fencedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fencedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fencedFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

// OpenDir's file is there to be synced.
func (f *fencedFS) OpenDir(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *fencedFS) Link(from, to string) error {
	return f.e.change(func() error { return f.FS.Link(from, to) })
}

// Remove of a file that is gone has nothing to do: Pebble asks for that now and then.
// For all its other changes a file or folder must be there, and is not when somebody
// has taken the folder away.
func (f *fencedFS) Remove(name string) error {
	return f.e.change(func() error {
		if err := f.FS.Remove(name); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (f *fencedFS) RemoveAll(name string) error {
	return f.e.change(func() error { return f.FS.RemoveAll(name) })
}

func (f *fencedFS) Rename(from, to string) error {
	return f.e.change(func() error { return f.FS.Rename(from, to) })
}

func (f *fencedFS) MkdirAll(name string, perm os.FileMode) error {
	return f.e.change(func() error { return f.FS.MkdirAll(name, perm) })
}

// Lock takes the folder. Its closer can be called by Pebble and by us, so that
// the folder comes free even if Pebble cannot be closed any more.
func (f *fencedFS) Lock(name string) (io.Closer, error) {
	l, err := f.FS.Lock(name)
	if err != nil {
		return nil, f.e.lockError(err)
	}
	f.e.lock = &onceCloser{close: sync.OnceValue(l.Close)}
	return f.e.lock, nil
}

type onceCloser struct{ close func() error }

func (c *onceCloser) Close() error { return c.close() }

// fencedFile is a file that is written.
type fencedFile struct {
	vfs.File
	e *engine
}

func (f *fencedFile) Write(p []byte) (int, error) {
	return len(p), f.e.change(func() error { _, err := f.File.Write(p); return err })
}

func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.e.change(func() error { _, err := f.File.WriteAt(p, off); return err })
}

func (f *fencedFile) Sync() error     { return f.e.change(f.File.Sync) }
func (f *fencedFile) SyncData() error { return f.e.change(f.File.SyncData) }

func (f *fencedFile) SyncTo(n int64) (whole bool, err error) {
	err = f.e.change(func() (err error) { whole, err = f.File.SyncTo(n); return err })
	return whole, err
}

// Close gives the file back in any case.
func (f *fencedFile) Close() error {
	err := f.File.Close()
	return f.e.change(func() error { return err })
}

func (f *fencedFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	if err = f.e.change(func() error { return err }); err == nil && info == nil {
		return vfs.NewMemFile(nil).Stat()
	}
	return info, err
}

// nowhere is an empty file that takes no writes: the fence has them all.
type nowhere struct{ vfs.File }
