package resilience

import (
	"cmp"
	"fmt"
)

// InTurns is the physics of rows that are updated in turns: of a page only the
// first needs room elsewhere, and touches the indexes.
func (p Physics) InTurns() Physics {
	if p.Unindexed {
		p.HOTShare = max(p.HOTShare, 1-1/float64(p.RowsOnPage()))
	}
	return p
}

// RowsOnPage is how many rows a full page has.
func (p Physics) RowsOnPage() int64 { return max(1, pageBytes/max(1, cmp.Or(p.RowBytes, pageBytes))) }

func (p Physics) turns(e Effort) WayCost {
	w := WayCost{Way: Turns, MS: p.InTurns().applyMS(e), Rate: e.Rate, Note: fmt.Sprintf("rows change in place, of each page one after another: of %d only one touches the indexes", p.RowsOnPage())}
	switch {
	case !p.Unindexed:
		w.Closed = "an index holds the path"
	case p.RowsOnPage() == 1:
		w.Closed = "a page has room for one row only"
	}
	return w
}

// notInTurns says why rows cannot take turns; it is empty where they can.
func (c Circumstances) notInTurns() string {
	if closed := c.Physics.turns(Effort{}).Closed; closed != "" {
		return closed
	}
	if c.Settled || c.Undoing {
		return "the rows have to keep their order"
	}
	return ""
}
