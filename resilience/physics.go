package resilience

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Way is how the rows of a plan physically come to their new path.
type Way string

// The ways.
const (
	Update    Way = "update"     // rows are updated in place
	Turns     Way = "turns"      // likewise, those of a page in turns: each takes the room that the one before left
	Trickle   Way = "trickle"    // in place, too, slowly, under a rate that the indexes bear
	AliasOnly Way = "alias_only" // rows stay as they are; the old path resolves to the new one
	Rebuild   Way = "rebuild"    // the vector index is dropped before and built again after
)

// Ways lists every way.
func Ways() []Way { return []Way{Update, Turns, Trickle, AliasOnly, Rebuild} }

// Physics is what around the path of a table decides what changing it costs.
type Physics struct {
	Rows          int64    `json:"rows"`           // of the table, as the planner believes
	RowBytes      int64    `json:"row_bytes"`      // in the heap, without what is stored out of line; 0: not known
	StoredBytes   int64    `json:"stored_bytes"`   // of a row with that, where rows come from
	PathIndexes   []string `json:"path_indexes"`   // that hold the path, or an expression over its column, whatever their kind
	GINIndexes    []string `json:"gin_indexes"`    // written by every update that is not HOT, whether they hold the path or not
	VectorIndexes []string `json:"vector_indexes"` // HNSW or IVFFlat, by name
	HOTShare      float64  `json:"hot_share"`      // of updates, that need touch no index; 0 where one holds the path
	HOT           bool     `json:"hot"`            // nearly all of them: none holds the path, and pages have room
	Unindexed     bool     `json:"path_unindexed"` // no index holds the path: an update is HOT where there is room
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

// Index is one index of a memory's table, as far as it matters.
type Index struct {
	Name   string
	Method string // its access method
	Path   bool   // it holds a column that the path is in: as a key, beside one, in an expression or in its condition
}

// Method names of pgvector's indexes.
var vectorMethods = []string{"hnsw", "ivfflat"}

// nearlyAll of a table's updates are HOT from this share on.
const nearlyAll = 0.9

// NewPhysics sorts the indexes of a table by what they make of an update of its
// path. room is the share of rows whose page has room for another version.
func NewPhysics(indexes []Index, room float64) Physics {
	p := Physics{PathIndexes: []string{}, GINIndexes: []string{}, VectorIndexes: []string{}, HOTShare: room, Unindexed: true}
	for _, i := range indexes {
		switch {
		case slices.Contains(vectorMethods, i.Method):
			p.VectorIndexes = append(p.VectorIndexes, i.Name)
		case i.Method == "gin":
			p.GINIndexes = append(p.GINIndexes, i.Name)
		}
		if i.Path {
			p.PathIndexes = append(p.PathIndexes, i.Name)
			p.HOTShare, p.Unindexed = 0, false
		}
	}
	p.HOT = p.HOTShare >= nearlyAll
	return p
}

// PathIn says which indexes hold the path, and those inside which it is a part of
// a document; it is empty where none does.
func (p Physics) PathIn() string {
	var direct, inside []string
	for _, name := range p.PathIndexes {
		if slices.Contains(p.GINIndexes, name) {
			inside = append(inside, name)
		} else {
			direct = append(direct, name)
		}
	}
	var places []string
	if len(direct) > 0 {
		places = append(places, "in "+strings.Join(direct, ", "))
	}
	if len(inside) > 0 {
		places = append(places, "inside GIN "+strings.Join(inside, ", "))
	}
	return strings.Join(places, " and ")
}

// GINs names the GIN indexes, and says so where none of them holds the path.
func (p Physics) GINs() string {
	all := "GIN " + strings.Join(p.GINIndexes, ", ")
	if slices.ContainsFunc(p.GINIndexes, func(name string) bool { return slices.Contains(p.PathIndexes, name) }) {
		return all
	}
	return all + " (without the path)"
}

// Bytes of a page of Postgres that rows can use, and what each row takes of
// them beside its columns: a line pointer, a header, its share of alignment.
const (
	pageBytes   = 8168
	rowOverhead = 32
)

// Room says what share of rows lie on a page with room for a new version of
// each of them, going by a sample of pages with so many rows of so many bytes.
// A page that is half full has room for all, one filled to 70 % for 3 of 7.
func Room(rowsOnPages []int64, rowBytes int64) float64 {
	var rows, fit float64
	for _, n := range rowsOnPages {
		used := float64(n * max(rowBytes, 1))
		rows += float64(n)
		fit += float64(n) * min(1, max(0, pageBytes-used)/used)
	}
	if rows == 0 {
		return 1
	}
	return fit / rows
}

// ColumnWidth is what the values of a column take on average as stored, and
// whether Postgres may store them out of line.
type ColumnWidth struct {
	Bytes   float64
	Movable bool
}

// Rows wider than ToastTarget have their widest columns stored out of line,
// where ToastPointer is left of each; in bytes.
const (
	ToastTarget  = 2032
	ToastPointer = 18
)

// HeapWidth is what a row of such columns takes in the heap.
func HeapWidth(columns []ColumnWidth) int64 {
	total := float64(rowOverhead)
	var movable []float64
	for _, c := range columns {
		total += c.Bytes
		if c.Movable && c.Bytes > ToastPointer {
			movable = append(movable, c.Bytes)
		}
	}
	slices.Sort(movable)
	for _, bytes := range slices.Backward(movable) {
		if total <= ToastTarget {
			break
		}
		total += ToastPointer - bytes
	}
	return int64(math.Ceil(total))
}

// What one row costs, in milliseconds, before anything was learned. Measured on
// two cores with rows of 1.1 kB: 50,000 rows a second in batches of 1,000,
// verified; 0.31 of that when HOT; 529 rows a second with an HNSW index.
const (
	hotRowMS       = 0.006
	plainRowMS     = 0.02
	ginRowMS       = 0.03 // more, for each GIN index
	vectorRowMS    = 1.87 // more, for each vector index
	buildRowMS     = 0.25 // of the table, when a vector index is built over it
	transactionMS  = 1.5  // for each transaction
	aroundMS       = 600  // for each plan: the look before it, sweep, the look at all rows, switch, completion
	measuredBytes  = 1100
	defaultBatch   = 1000 // where nobody says how large batches are
	trickleShare   = 0.5  // of the time, in which a trickle keeps the indexes busy
	fixedRowShare  = 0.4  // of a row's cost does not depend on its width
	slowestTrickle = 1.0  // rows a second
)

// RowMS is what an update of one row's path is expected to cost in
// milliseconds, before anything was learned: a row that is HOT costs its width;
// any other costs its width and a new entry in every index.
func (p Physics) RowMS() float64 {
	width := 1.0
	if p.RowBytes > 0 {
		width = fixedRowShare + (1-fixedRowShare)*float64(p.RowBytes)/measuredBytes
	}
	return width*(hotRowMS*p.HOTShare+plainRowMS*(1-p.HOTShare)) +
		(1-p.HOTShare)*(ginRowMS*float64(len(p.GINIndexes))+vectorRowMS*float64(len(p.VectorIndexes)))
}

// Effort is an amount of work and the pace asked for.
type Effort struct {
	Rows     int64
	Batch    int     // rows in one transaction; 0 is what runs at full speed
	Rate     float64 // rows a second at most; 0 is no bound
	Slowness float64 // how many times what the rules say it takes, as learned; 0 is once
}

func (e Effort) slowness() float64 { return cmp.Or(e.Slowness, 1) }

// WayCost is one way for an amount of work, with its expected cost.
type WayCost struct {
	Way    Way     `json:"way"`
	MS     int64   `json:"ms"`               // until it is done
	Rate   float64 `json:"rate,omitempty"`   // rows a second it keeps to
	Closed string  `json:"closed,omitempty"` // why it cannot be taken; empty: it can
	Note   string  `json:"note"`             // what it means for others
	Taken  bool    `json:"taken,omitempty"`  // the plan goes it, or a group of the plan
}

// Ways lists all ways for an amount of work, each with its expected cost. It
// never chooses: the cheapest is not always what people want.
func (p Physics) Ways(e Effort) []WayCost {
	update := WayCost{Way: Update, MS: p.applyMS(e), Rate: e.Rate, Note: "rows change in place"}
	slow := e
	slow.Rate = max(slowestTrickle, 1000*trickleShare/(p.RowMS()*e.slowness()))
	if e.Rate > 0 {
		slow.Rate = min(slow.Rate, e.Rate)
	}
	trickle := WayCost{
		Way: Trickle, MS: p.applyMS(slow), Rate: slow.Rate,
		Note: fmt.Sprintf("rows change in place, %.0f a second, so that half of the time the indexes are left to others", slow.Rate),
	}
	alias := WayCost{Way: AliasOnly, MS: aroundMS, Note: "rows keep their old path; applications have to ask rehome.current_path"}
	return []WayCost{update, p.turns(e), trickle, alias, p.rebuild(e)}
}

func (p Physics) rebuild(e Effort) WayCost {
	bare := p
	bare.VectorIndexes = nil
	build := e.slowness() * buildRowMS * float64(max(p.Rows, e.Rows)) * float64(len(p.VectorIndexes))
	w := WayCost{
		Way: Rebuild, MS: toMS(float64(bare.applyMS(e)) + build), Rate: e.Rate,
		Note: "similarity search goes without its index until it is built again",
	}
	switch {
	case len(p.VectorIndexes) == 0:
		w.Closed = "the table has no vector index"
	case p.HOT:
		w.Closed = "an update does not touch the vector index"
	case !p.MayRebuild:
		w.Closed = "rehome's role does not own the table, or may create nothing in its schema"
	}
	return w
}

// applyMS is the time for the rows and their transactions, or what the rate
// makes of it, and for what surrounds them.
func (p Physics) applyMS(e Effort) int64 {
	rows, batch := float64(max(e.Rows, 0)), float64(cmp.Or(e.Batch, defaultBatch))
	ms := e.slowness() * (rows*p.RowMS() + math.Ceil(rows/batch)*transactionMS)
	if e.Rate > 0 {
		ms = max(ms, 1000*rows/e.Rate)
	}
	return toMS(aroundMS + ms)
}

// TransactionMS is how long one transaction of an amount of work is expected to
// hold the locks of its rows.
func (p Physics) TransactionMS(e Effort) int64 {
	rows := min(max(e.Rows, 0), int64(cmp.Or(e.Batch, defaultBatch)))
	return toMS(e.slowness() * (transactionMS + p.RowMS()*float64(rows)))
}

// mostMS is 30,000 years.
const mostMS = 1e15

// toMS rounds to whole milliseconds, within what they can count.
func toMS(ms float64) int64 { return int64(math.Round(min(ms, mostMS))) }

// Cost finds the cost of one way for an amount of work.
func (p Physics) Cost(w Way, e Effort) WayCost {
	ways := p.Ways(e)
	if i := slices.IndexFunc(ways, func(c WayCost) bool { return c.Way == w }); i >= 0 {
		return ways[i]
	}
	return ways[0]
}
