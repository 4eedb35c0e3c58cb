package resilience

// Way is how the rows of a plan physically come to their new path.
type Way string

// The ways.
const (
	Update    Way = "update"     // rows are updated in place
	Trickle   Way = "trickle"    // the same, slowly, under a rate that the indexes bear
	AliasOnly Way = "alias_only" // rows stay as they are; the old path resolves to the new one
	Rebuild   Way = "rebuild"    // the vector index is dropped before and built again after
)

// Physics is what around the path of a table decides what changing it costs.
type Physics struct {
	Rows          int64    `json:"rows"`           // of the table, as the planner believes
	RowBytes      int64    `json:"row_bytes"`      // in the heap, without what is stored out of line
	PathIndexes   []string `json:"path_indexes"`   // that hold the path itself
	GINIndexes    []string `json:"gin_indexes"`    // that hold it inside a document
	VectorIndexes []string `json:"vector_indexes"` // HNSW or IVFFlat, by name
	HOT           bool     `json:"hot"`            // updates need touch no index: none holds the path, and pages have room
	MayRebuild    bool     `json:"may_rebuild"`    // our role may drop and create the vector indexes
}

// IndexClass sums up Physics in the one word under which costs are learned.
type IndexClass string

// The classes, cheapest first.
const (
	HOTClass    IndexClass = "hot"    // no index is touched
	PlainClass  IndexClass = "plain"  // b-trees only
	GINClass    IndexClass = "gin"    // documents are indexed again
	VectorClass IndexClass = "vector" // embeddings are indexed again
)

// Class of the physics.
func (p Physics) Class() IndexClass {
	switch {
	case p.HOT:
		return HOTClass
	case len(p.VectorIndexes) > 0:
		return VectorClass
	case len(p.GINIndexes) > 0:
		return GINClass
	}
	return PlainClass
}
