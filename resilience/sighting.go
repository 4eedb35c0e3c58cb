package resilience

import (
	"fmt"
	"strings"
)

// What a scan may find gone before it asks a person.
const (
	// smallLoss files may be gone from any tree or directory: in small ones the
	// share says nothing.
	smallLoss = 10
	// SampledSources is how many sources stand for all of a memory that no scan
	// and no ingest has looked at yet. At least half of them must be there.
	SampledSources = 200
	// SampledCanaries is how many files of a complete scan the next must find
	// one of, or all of when the root is on another device than before.
	SampledCanaries = 20
)

// MarkerFile is the file in a root that holds the id of its marker, for roots
// that have one: another tree mounted in its place is told by it at once.
const MarkerFile = ".rehome-root"

// Region is the tree, ".", or a directory in its root, with the files that were
// known there and how many of them are gone. A file that is found elsewhere by
// its name and size has moved and is not gone.
type Region struct {
	Path   string
	Before int64
	Lost   int64
}

// shrunken reports whether more is gone than people delete in passing: more
// than smallLoss files and more than half.
func (r Region) shrunken() bool { return r.Lost > smallLoss && 2*r.Lost > r.Before }

// Sighting is what a scan saw of a tree, to be judged before any chunk is:
// whether it is the tree that the memory was made from.
type Sighting struct {
	Memory       string
	Root         string
	Files        int64    // names seen that are no directories
	Known        int64    // files known before, or sources when none are
	Regions      []Region // those with files lost
	Canaries     int64
	CanariesGone int64
	OtherDevice  bool
	Sampled      int64 // sources looked for in a tree that was never seen before
	SampledGone  int64
	Chunks       int64 // that would be called missing
}

// Doubt says in a sentence why this may not be the memory's tree, or "".
func (s Sighting) Doubt() string {
	if s.Chunks == 0 && len(s.Regions) == 0 {
		return "" // nothing is called missing, so nothing is at stake
	}
	if s.Files == 0 && s.Known > 0 {
		return fmt.Sprintf("there is no file in it, and %d were known", s.Known)
	}
	for _, r := range s.Regions {
		if r.shrunken() {
			place := "it"
			if r.Path != "." {
				place = "its directory " + r.Path
			}
			return fmt.Sprintf("%d of the %d files known in %s are gone", r.Lost, r.Before, place)
		}
	}
	switch {
	case s.Canaries > 0 && s.CanariesGone == s.Canaries:
		return fmt.Sprintf("none of %d files that stand for the last complete scan is there", s.Canaries)
	case s.OtherDevice && s.CanariesGone > 0:
		return fmt.Sprintf("it is on another device than at the last complete scan, and %d of %d files that stand for that one are not there", s.CanariesGone, s.Canaries)
	case 2*s.SampledGone > s.Sampled:
		return fmt.Sprintf("of %d sampled source paths of the memory, which was never scanned before, %d are not there", s.Sampled, s.SampledGone)
	}
	return ""
}

// Refusal is the message for a tree that is in doubt: what would have happened,
// and the two ways on.
func Refusal(memory, root, doubt, consequence string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "the root %s of memory %s may not be the right tree: %s. ", root, memory, doubt)
	fmt.Fprintf(&b, "Going on would have called %s missing, so nothing was changed. ", consequence)
	fmt.Fprintf(&b, "If it is not mounted, or the wrong one is, put that right and scan again; ")
	fmt.Fprintf(&b, "if the files really are gone, say so with `starter scan --memory %s --accept-shrinkage %s`", memory, memory)
	return b.String()
}
