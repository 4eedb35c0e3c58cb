package activities

import "rehome/corpus"

// Tree is what scans and cleanups need of a root.
type Tree = tree

// FilesOver returns f with open in place of opening real roots.
func FilesOver(f Files, open func(dir string) (Tree, error)) *Files {
	f.open = open
	return &f
}

// OpenReal opens a real root.
func OpenReal(dir string) (Tree, error) { return corpus.OpenRoot(dir) }
