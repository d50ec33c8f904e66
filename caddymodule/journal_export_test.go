package caddymodule

// JournalCommand is `app-proxy journal`.
var JournalCommand = journalCommand
