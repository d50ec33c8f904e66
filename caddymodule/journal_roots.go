package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// journalRoots are the folders in which journals are or have been: what lies in
// one that no configuration names any more has to be reported. The default one is
// always known; the others are noted in a file in it, for the next process.
type journalRoots struct {
	home  string
	other []string // oldest first, at most maxRoots
}

// maxRoots bounds who keeps moving the journals.
const maxRoots = 64

// rootsFile is the file in the default root. No pool's folder has such a name.
const rootsFile = ".folders.json"

func (j *journalRoots) all() []string { return append([]string{j.home}, j.other...) }

// add notes folders. With an error it knows of them all the same, but the next
// process may not.
func (j *journalRoots) add(home string, roots []string) error {
	j.home = home
	known, err := readRoots(home) // another process may have it too
	j.other = boundedRoots(slices.Concat(known, j.other, roots), home)
	if err == nil && !slices.Equal(j.other, known) {
		err = writeRoots(home, j.other)
	}
	return err
}

// boundedRoots has each folder once. Of too many the first go that are not there.
func boundedRoots(roots []string, home string) (kept []string) {
	for _, root := range roots {
		if root != home && !slices.Contains(kept, root) {
			kept = append(kept, root)
		}
	}
	for len(kept) > maxRoots {
		gone := max(slices.IndexFunc(kept, func(root string) bool { _, err := os.Stat(root); return err != nil }), 0)
		kept = slices.Delete(kept, gone, gone+1)
	}
	return kept
}

func readRoots(home string) (roots []string, err error) {
	text, err := os.ReadFile(filepath.Join(home, rootsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("app_proxy: read where journals have been: %w", err)
	}
	if err := json.Unmarshal(text, &roots); err != nil {
		return nil, fmt.Errorf("app_proxy: read where journals have been: %s: %w", filepath.Join(home, rootsFile), err)
	}
	return roots, nil
}

// writeRoots puts a whole file in the place of the one before.
func writeRoots(home string, roots []string) error {
	text, err := json.Marshal(roots)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("app_proxy: note where journals are: %w", err)
	}
	f, err := os.CreateTemp(home, rootsFile+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("app_proxy: note where journals are: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(home, rootsFile))
	}
	if err != nil {
		return fmt.Errorf("app_proxy: note where journals are: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
