// Package corpus reads the tree of files that a memory was cut from.
//
// It knows paths (Clean, Key), one opened tree (Root) with its directories and
// texts, and how a text is cut into chunks (Split). It never leaves the root,
// never follows a symbolic link, never crosses into another file system, and
// never writes. What it could not read it says: a listing is whole or has an
// error, a text is whole or is skipped with a reason.
package corpus
