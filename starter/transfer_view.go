package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"rehome/resilience"
)

// transferRows says of a transfer that it is one, between which memories, and for
// how long both have the chunks.
func transferRows(w io.Writer, p resilience.Plan) {
	t := p.Transfer
	if t == nil {
		return
	}
	if t.Back {
		row(w, "kind", "transfer, back home")
		row(w, "target", fmt.Sprintf("memory %s, from memory %s", p.Memory, t.To))
		return
	}
	row(w, "kind", "transfer")
	target := fmt.Sprintf("memory %s, for all chunks", t.To)
	if t.Prefix != "" {
		target += " at or under " + t.Prefix
	}
	row(w, "target", target)
	if soak := t.Lasts(); soak > 0 {
		row(w, "soak", fmt.Sprintf("%s after the switch, in which both memories have the chunks", soak))
	} else {
		row(w, "soak", "none")
	}
}

// copyLine says how the rows of a transfer come to where they go.
func copyLine(p resilience.Plan) string {
	switch {
	case p.Transfer.Back:
		return fmt.Sprintf("copy: rows come back to memory %s, and their copies in memory %s go", p.Memory, p.Transfer.To)
	case p.Transfer.Lasts() > 0:
		return fmt.Sprintf("copy: rows are copied to memory %s, and those of memory %s go to quarantine after the soak", p.Transfer.To, p.Memory)
	}
	return fmt.Sprintf("copy: rows are copied to memory %s, and those of memory %s then go to quarantine", p.Transfer.To, p.Memory)
}

// arrivalLine says what rows touch that come to the table.
func arrivalLine(p resilience.Physics) string {
	line := fmt.Sprintf("about %d rows of %s; each row that comes goes into all indexes", p.Rows, size(p.RowBytes))
	if dear := slices.Concat(p.VectorIndexes, p.GINIndexes); len(dear) > 0 {
		line += ", of which " + strings.Join(dear, ", ") + " cost most"
	}
	return line
}
