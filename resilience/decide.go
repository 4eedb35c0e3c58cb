package resilience

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Group is one phase of an intelligent plan: a range of its journal, how it is
// moved, and why so.
type Group struct {
	Position     int           `json:"position"` // 1 runs first
	Name         string        `json:"name"`
	Until        int64         `json:"until"` // ordinal of its last row
	Rows         int64         `json:"rows"`
	Strategy     Strategy      `json:"strategy"`
	Way          Way           `json:"way"`
	BatchSize    int           `json:"batch_size"`     // rows of its first transaction
	Most         int           `json:"most,omitempty"` // rows of any of its transactions; 0: as servers bear
	Rate         float64       `json:"rate"`           // rows a second; 0 is unlimited
	TargetMS     float64       `json:"target_ms"`      // that a batch is to take; 0: the size is not adapted
	ExpectedMS   float64       `json:"expected_ms"`    // of the whole group
	Forecast     Forecast      `json:"forecast"`       // of a batch
	Inputs       Inputs        `json:"inputs"`         // what was measured
	Alternatives []Alternative `json:"alternatives"`   // what else was thought of
	Reason       string        `json:"reason"`
	Course       *Course       `json:"course,omitempty"` // how its batches go; nil before the first
	Members      []string      `json:"-"`                // directories whose chunks it holds
	Rest         bool          `json:"-"`                // it also holds what is in no group's directories
}

// Decision says how a group moves: by which strategy and way, in transactions of
// which size and at which pace.
func (g Group) Decision() string {
	words := fmt.Sprintf("by strategy %s and way %s, %d in the first transaction", g.Strategy, g.Way, g.BatchSize)
	if g.Rate > 0 {
		words += fmt.Sprintf(", %g a second", g.Rate)
	}
	return words + ", about " + ms(g.ExpectedMS)
}

// GoesLike reports whether the batches of g, each of a size of its own that
// adapts, go as those of another group.
func (g Group) GoesLike(o Group) bool {
	return g.Way == o.Way && g.Strategy == o.Strategy && g.Rate == o.Rate && g.TargetMS > 0 && o.TargetMS > 0
}

// Nice is how many times as long as a batch took the group rests after it while the
// server has room, see the function Nice. A trickle leaves others half of the time, which
// its rate rests on, too.
func (g Group) Nice() float64 {
	if g.Way == Trickle {
		return 1/trickleShare - 1
	}
	return 0
}

// Inputs is what a decision rests on.
type Inputs struct {
	Heat       Heat       `json:"heat"`
	Uses       int64      `json:"uses"`
	IdleDays   *float64   `json:"idle_days,omitempty"` // since the last use; none on record: absent
	Bytes      int64      `json:"bytes"`
	RowBytes   int64      `json:"row_bytes,omitempty"` // of a row that is copied
	IndexClass IndexClass `json:"index_class"`
	TableRows  int64      `json:"table_rows"`
	MSPerRow   float64    `json:"ms_per_row"` // of an update in place
	Basis      string     `json:"basis"`      // of that figure
}

// String says in words what the decision rests on.
func (in Inputs) String() string {
	return fmt.Sprintf("%s, %s bytes of text, index class %s in a table of about %s rows, %s for an update of a row (%s)",
		in.use(), thousands(in.Bytes), in.IndexClass, thousands(in.TableRows), ms(in.MSPerRow), in.Basis)
}

// use says how much the chunks are in use.
func (in Inputs) use() string {
	switch {
	case in.Heat == Unknown:
		return "uses are not counted"
	case in.IdleDays == nil:
		return string(in.Heat) + ", never used"
	}
	return fmt.Sprintf("%s, used %s times, last %g days ago", in.Heat, thousands(in.Uses), *in.IdleDays)
}

// Alternative is something that a group could have been, and why it is not.
type Alternative struct {
	Way        Way     `json:"way"`
	ExpectedMS float64 `json:"expected_ms"`
	Why        string  `json:"why"`
}

// String says it in words.
func (a Alternative) String() string {
	return fmt.Sprintf("not %s, about %s: %s", a.Way, ms(a.ExpectedMS), a.Why)
}

// Circumstances of a decision: what is the same for all groups of a plan.
type Circumstances struct {
	Physics Physics
	Costs   Costs
	Policy  Policy
	Settled bool // the rows have to keep their order
	Undoing bool // the rows really moved, and have to move again
	Late    bool // the plan is queued or was begun: nobody is asked any more

	Transfer bool // rows are copied to another table, where these indexes are not
}

// Bounds of decisions, in milliseconds unless said otherwise.
const (
	atOnceMS    = 1000.0 // nobody who uses cold chunks minds a transaction that is as long
	atOnceRows  = 20_000
	bearableMS  = 3000.0 // of index work: not worth another way
	rebuildGain = 2.0    // times faster that a rebuild has to be
	leastSize   = 20     // rows
	largestSize = 10_000 // rows
)

// Decide says how each cluster of a plan is moved, in the order in which they
// run. Where an update is cheap, only sizes differ; where each row costs an
// insertion into a vector index, another way is looked for.
func Decide(clusters []Cluster, c Circumstances) []Group {
	var rows int64
	for _, one := range clusters {
		rows += one.Rows
	}
	all := c.common(rows)
	groups := make([]Group, len(clusters))
	var until int64
	for i, one := range clusters {
		until += one.Rows
		g := Group{Position: i + 1, Name: one.Name, Until: until, Rows: one.Rows, Members: one.Members, Rest: one.Rest, Inputs: c.inputs(one)}
		choice := all
		if choice.way == "" {
			choice = c.each(one)
		}
		g.Way, g.Alternatives = choice.way, choice.against(c.options(one.Rows, rows))
		g.Reason = choice.why + c.pace(&g) + c.order(one.Heat, len(clusters))
		if g.Way == Rebuild {
			g.ExpectedMS = c.rebuildMS(rows) * float64(one.Rows) / float64(max(rows, 1)) // with its share of the building
		}
		groups[i] = g
	}
	return groups
}

// choice of a way, and why.
type choice struct {
	way Way
	why string
	not map[Way]string // why the others are not
}

// common is the way that all groups of a plan of so many rows go; none means
// that each is looked at. A rebuild is for all or for none: the index is gone
// for all of them.
func (c Circumstances) common(rows int64) choice {
	if c.Transfer {
		return choice{way: Update, why: "Rows are copied to another table, and the old ones are taken away after the switch."}
	}
	if c.Policy.Way != "" {
		return choice{way: c.Policy.Way, why: "The operator asked for " + string(c.Policy.Way) + "."}
	}
	update := c.Costs.Update
	busy := float64(rows) * update.MSPerRow
	if c.Physics.Class() != VectorClass {
		return choice{way: Update, why: fmt.Sprintf("An update touches %s: %s a row (%s).", c.Physics.touched(), ms(update.MSPerRow), update.Basis)}
	}
	vectors := fmt.Sprintf("Each update puts the embedding into %s again: %s a row (%s), %s in all", nameSome(c.Physics.VectorIndexes), ms(update.MSPerRow), update.Basis, ms(busy))
	rebuild := c.rebuildMS(rows)
	if turns := float64(rows) * c.Costs.Turns.MSPerRow; c.notInTurns() == "" && turns*rebuildGain <= busy && !(c.mayRebuild() && rebuild*rebuildGain <= turns) {
		return choice{way: Turns, why: vectors + fmt.Sprintf("; of the %d rows on a page all but the first find the room that the one before left, and touch no index: %s.", c.Physics.RowsOnPage(), ms(turns))}
	}
	if busy <= bearableMS {
		return choice{way: Update, why: vectors + ", which is bearable.", not: map[Way]string{Rebuild: "not worth it for so few rows"}}
	}
	if c.mayRebuild() && rebuild*rebuildGain <= busy {
		return choice{way: Rebuild, why: vectors + fmt.Sprintf("; without the index and with building it once it is %s.", ms(rebuild))}
	}
	return choice{}
}

func (c Circumstances) mayRebuild() bool {
	return c.Physics.MayRebuild && !c.Undoing && !c.Late
}

// rebuildMS is what a plan of so many rows costs without the vector indexes,
// and with building them once.
func (c Circumstances) rebuildMS(rows int64) float64 {
	return float64(rows)*c.Costs.Bare.MSPerRow + float64(max(c.Physics.Rows, rows))*c.Costs.Build.MSPerRow
}

// each chooses the way of one cluster where updates are dear and a rebuild is
// out of the question.
func (c Circumstances) each(one Cluster) choice {
	update := c.Costs.Update
	vectors := fmt.Sprintf("Each update costs %s of vector index (%s), %s for this group", ms(update.MSPerRow), update.Basis, ms(float64(one.Rows)*update.MSPerRow))
	if one.Heat == Cold && !c.Undoing {
		return choice{
			way: AliasOnly, why: vectors + ", and nobody uses its chunks: they stay, and the old path resolves to the new one.",
			not: map[Way]string{Trickle: "index work for chunks that nobody uses"},
		}
	}
	used := "and its chunks are in use"
	if one.Heat == Unknown {
		used = "and the memory counts no uses"
	}
	return choice{way: Trickle, why: fmt.Sprintf("%s, %s: slowly, so that others get at the index.", vectors, used)}
}

// options are the ways that a group of so many rows could go, with their costs.
// Its share of a rebuild is that of its rows.
func (c Circumstances) options(rows, all int64) []Alternative {
	update := float64(rows) * c.Costs.Update.MSPerRow
	options := []Alternative{{Way: Update, ExpectedMS: update}}
	if c.Transfer { // there is no other way to be in another table
		return options
	}
	if len(c.Physics.VectorIndexes) == 0 || c.Physics.HOT {
		return append(options, Alternative{Way: AliasOnly, ExpectedMS: float64(rows) * c.Costs.Stay.MSPerRow, Why: "the rows would keep their old path without need"})
	}
	return append(options,
		Alternative{Way: Turns, ExpectedMS: float64(rows) * c.Costs.Turns.MSPerRow, Why: c.notInTurns()},
		Alternative{Way: Trickle, ExpectedMS: update / trickleShare},
		Alternative{Way: AliasOnly, ExpectedMS: float64(rows) * c.Costs.Stay.MSPerRow, Why: c.notStaying()},
		Alternative{Way: Rebuild, ExpectedMS: c.rebuildMS(all) * float64(rows) / float64(max(all, 1)), Why: c.notRebuilding()})
}

// bars says why a plan cannot go a way that its table leaves open; it is empty
// where it can.
func (c Circumstances) bars(w Way) string {
	switch {
	case w == Turns:
		return c.notInTurns()
	case w == AliasOnly && c.Undoing:
		return c.notStaying()
	case w == Rebuild && !c.mayRebuild():
		return c.notRebuilding()
	}
	return ""
}

func (c Circumstances) notStaying() string {
	if c.Undoing {
		return "rows that moved have to move back"
	}
	return "the rows would keep their old path, and they may be in use"
}

func (c Circumstances) notRebuilding() string {
	switch {
	case !c.Physics.MayRebuild:
		return "our role may not drop and create the indexes"
	case c.Undoing, c.Late:
		return "it needs an approval, and nobody is asked any more"
	}
	return "the group is too small a part of the table for building its index"
}

// against are the options that were not chosen, with the reasons.
func (ch choice) against(options []Alternative) []Alternative {
	left := make([]Alternative, 0, len(options))
	for _, o := range options {
		if o.Way == ch.way {
			continue
		}
		o.Why = cmp.Or(ch.not[o.Way], o.Why, "dearer than what was chosen")
		left = append(left, o)
	}
	return left
}

// pace gives a group its strategy, its size, its target and its rate, and says
// in a sentence why.
func (c Circumstances) pace(g *Group) string {
	g.Strategy, g.TargetMS = Batch, float64(IntelligentAim.Target/time.Millisecond)
	per, said := c.perRow(g.Way), ""
	switch {
	case g.Way == AliasOnly:
		said = " Rows are only counted."
	case g.Way == Trickle:
		g.Strategy, g.TargetMS, g.Rate = Gradual, float64(GradualAim.Target/time.Millisecond), math.Round(1000*trickleShare/per)
		said = fmt.Sprintf(" At %.0f rows a second half of the time is left to others.", g.Rate)
	case g.Inputs.Heat == Hot:
		g.Strategy, g.TargetMS = Gradual, float64(GradualAim.Target/time.Millisecond)/2
		said = fmt.Sprintf(" Its chunks are in use just now: batches of %.0f ms that give way to others, looks at the database's health between them, and a rest of %d times as long after each while a signal is near its limit.", g.TargetMS, GradualNice)
	case g.Way != Turns && g.Inputs.Heat == Cold && float64(g.Rows)*per <= atOnceMS && g.Rows <= atOnceRows:
		g.Strategy, g.TargetMS = Immediate, 0
		said = " Nobody uses its chunks, and it is quick: one transaction."
	default:
		said = fmt.Sprintf(" Batches of about %.0f ms: %s.", g.TargetMS, g.notOtherwise())
	}
	g.Forecast = Forecast{BatchMS: batchMS, RowMS: per}
	g.BatchSize = g.Forecast.SizeFor(g.TargetMS, g.Inputs.rowBytes(g.Rows))
	if g.TargetMS == 0 {
		g.BatchSize = int(max(1, g.Rows))
	}
	if g.Way == Turns { // those of a page have to be in different transactions
		g.Most = int(max(1, g.Rows/c.Physics.RowsOnPage()))
		g.BatchSize = min(g.BatchSize, g.Most)
	}
	g.ExpectedMS = (1 + g.Nice()) * g.Forecast.Of(g.Rows, int64(g.BatchSize))
	return said
}

// notOtherwise says why a group goes neither in one transaction nor as what is in use.
func (g *Group) notOtherwise() string {
	switch {
	case g.Way == Turns:
		return "rows of a page may not be in one transaction"
	case g.Inputs.Heat == Unknown:
		return "nobody knows who uses its chunks, so they go neither in one transaction nor as slowly as those in use"
	case g.Inputs.Heat == Warm:
		return "its chunks are in use, so they do not go in one transaction, but not just now, so they need not go slowly"
	}
	return "nobody uses its chunks, but one transaction of all would be too long"
}

func (c Circumstances) perRow(w Way) float64 {
	switch w {
	case AliasOnly:
		return c.Costs.Stay.MSPerRow
	case Rebuild:
		return c.Costs.Bare.MSPerRow
	case Turns:
		return c.Costs.Turns.MSPerRow
	case Update, Trickle:
	}
	return c.Costs.Update.MSPerRow
}

func (c Circumstances) inputs(one Cluster) Inputs {
	in := Inputs{
		Heat: one.Heat, Uses: one.Uses, Bytes: one.Bytes, IndexClass: c.Physics.Class(), TableRows: c.Physics.Rows,
		MSPerRow: c.Costs.Update.MSPerRow, Basis: c.Costs.Update.Basis,
	}
	if c.Transfer {
		in.RowBytes = c.Physics.StoredBytes
	}
	if one.Idle != nil {
		days := math.Round(one.Idle.Hours()/24*100) / 100
		in.IdleDays = &days
	}
	return in
}

// rowBytes is what a batch writes of each of so many rows: of one that is copied all of
// it, and else not what is stored out of line.
func (in Inputs) rowBytes(rows int64) int64 { return max(in.RowBytes, in.Bytes/max(rows, 1)) }

// touched is the indexes that an update writes to, where none is over vectors.
func (p Physics) touched() string {
	switch {
	case p.HOT:
		return "no index"
	case len(p.GINIndexes) > 0:
		return p.GINs()
	}
	return "b-tree indexes only"
}

func nameSome(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%d vector indexes", len(names))
}

// ms says a time in words of a fitting size.
func ms(t float64) string {
	if t < 10 {
		return fmt.Sprintf("%.3g ms", t)
	}
	return Spell(int64(math.Round(t)))
}

// PlanWay is the way of a plan whose groups go these: theirs where they agree,
// else the slower one of those that move rows.
func PlanWay(groups []Group) Way {
	way := Update
	for _, g := range groups {
		switch {
		case !slices.ContainsFunc(groups, func(o Group) bool { return o.Way != g.Way }):
			return g.Way
		case g.Way == Trickle:
			way = Trickle
		}
	}
	return way
}
