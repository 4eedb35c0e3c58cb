package resilience

import "slices"

// Cost is what the server works for a row, and how that is known.
type Cost struct {
	MSPerRow float64
	Basis    string
}

// Costs of a row by the ways that it can go.
type Costs struct {
	Update Cost // in place, with all the indexes there are
	Turns  Cost // in place, the rows of a page in turns
	Bare   Cost // in place without the vector indexes
	Stay   Cost // only looked at
	Build  Cost // building the vector indexes, for each row of the table
}

// stayRowMS is what a row costs that is only looked at.
const stayRowMS = 0.004

// NewCosts are the costs where an update of a row of the table was measured to
// take so long, on a basis; 0 where it was not yet. What was not measured is
// taken to differ from what is usual as much as an update does.
func NewCosts(p Physics, updateMS float64, basis string) Costs {
	usual := p.RowMS()
	if updateMS <= 0 {
		updateMS, basis = usual, "as is usual for such indexes: no run of this kind is known yet"
	}
	bare := p
	bare.VectorIndexes = nil
	turns := updateMS * min(1, p.InTurns().RowMS()/usual)
	return Costs{
		Turns:  Cost{MSPerRow: turns},
		Update: Cost{updateMS, basis},
		Bare:   Cost{MSPerRow: min(bare.RowMS(), updateMS)},
		Stay:   Cost{MSPerRow: stayRowMS},
		Build:  Cost{MSPerRow: buildRowMS * float64(len(p.VectorIndexes)) * updateMS / usual},
	}
}

// VectorMethods are the access methods whose indexes a rebuild takes away and
// builds again.
func VectorMethods() []string { return slices.Clone(vectorMethods) }
