package caddymodule

import "path/filepath"

// JournalCommand is `app-proxy journal`.
var JournalCommand = journalCommand

// ForgetJournals lets this process know no more of where journals are than a new one.
func ForgetJournals() {
	stores.Lock()
	defer stores.Unlock()
	stores.roots = journalRoots{}
}

// JournalFolders is the file that names the folders.
func JournalFolders() string { return filepath.Join(journalRoot(), rootsFile) }
