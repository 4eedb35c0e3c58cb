package resilience

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Heat says how much the chunks of a group are in use.
type Heat string

// The heats, in the order in which groups run: what nobody uses teaches what a
// row costs before anything that people use is touched.
const (
	Cold    Heat = "cold"    // not used for a month, in a memory that counts uses
	Unknown Heat = "unknown" // the memory counts none
	Warm    Heat = "warm"
	Hot     Heat = "hot" // used within the last hour
)

// When a use makes a group what.
const (
	coldAfter = 30 * 24 * time.Hour
	hotWithin = time.Hour
)

func (h Heat) rank() int { return slices.Index(heats(), h) }

// Directory is what a look at the journal found of the chunks that lie together:
// those of one directory directly below what a plan renames.
type Directory struct {
	Name  string
	Rows  int64
	Bytes int64          // of their text
	Uses  int64          // as the application and rehome.touch counted them
	Idle  *time.Duration // since the last of them; nil: never
	Rest  bool           // it stands for all directories that are not named
}

// heat of the directory. Counted says whether the memory counts uses at all.
func (d Directory) heat(counted bool) Heat {
	switch {
	case !counted:
		return Unknown
	case d.Idle == nil || *d.Idle > coldAfter:
		return Cold
	case *d.Idle <= hotWithin:
		return Hot
	}
	return Warm
}

// MaxGroups is how many groups a plan is split into at most.
const MaxGroups = 64

// leastGroup is how many rows make a group of their own: fewer are not worth
// the look at them.
const leastGroup = 500

// Cluster is a number of directories that are moved as one group.
type Cluster struct {
	Directory
	Heat    Heat
	Members []string // names of the directories, but for the rest
}

// Gather makes clusters of directories: small ones of the same heat together,
// cold before hot and small before large. The order of what comes in does not
// matter.
func Gather(directories []Directory) []Cluster {
	var rows int64
	counted := false
	for _, d := range directories {
		rows += d.Rows
		counted = counted || d.Idle != nil || d.Uses > 0
	}
	least := max(leastGroup, rows/(MaxGroups-int64(len(heats()))))
	small := map[Heat]*Cluster{}
	var clusters []Cluster
	for _, d := range slices.SortedFunc(slices.Values(directories), byName) {
		h := d.heat(counted)
		if d.Rows > least {
			clusters = append(clusters, Cluster{Heat: h}.with(d))
			continue
		}
		if small[h] == nil {
			small[h] = &Cluster{Heat: h}
		}
		*small[h] = small[h].with(d)
	}
	for _, h := range heats() {
		if c := small[h]; c != nil {
			clusters = append(clusters, *c)
		}
	}
	for i, c := range clusters {
		if n := len(c.Members); n > 1 {
			clusters[i].Name = fmt.Sprintf("%s and %d more", c.Name, n-1)
		}
	}
	slices.SortFunc(clusters, func(a, b Cluster) int {
		return cmp.Or(cmp.Compare(a.Heat.rank(), b.Heat.rank()), cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Name, b.Name))
	})
	return clusters
}

// order says why one of so many groups comes where it does.
func (c Circumstances) order(h Heat, groups int) string {
	switch {
	case groups > 1 && h == Unknown:
		return " The smaller groups come first."
	case groups > 1:
		return " The less used come first, and of those used alike the smaller."
	case c.Settled:
		return " All go as one group, since the rows have to keep their order."
	}
	return ""
}

func heats() []Heat { return []Heat{Cold, Unknown, Warm, Hot} }

func byName(a, b Directory) int { return cmp.Compare(a.Name, b.Name) }

// with is the cluster and a directory more.
func (c Cluster) with(d Directory) Cluster {
	c.Name = cmp.Or(c.Name, d.Name)
	c.Rows, c.Bytes, c.Uses, c.Rest = c.Rows+d.Rows, c.Bytes+d.Bytes, c.Uses+d.Uses, c.Rest || d.Rest
	if d.Idle != nil && (c.Idle == nil || *d.Idle < *c.Idle) {
		c.Idle = d.Idle
	}
	if !d.Rest {
		c.Members = append(c.Members, d.Name)
	}
	return c
}
