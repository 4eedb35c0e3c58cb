package resilience

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxMoves is how many pairs one list of moves may have.
const MaxMoves = 1_000_000

// Move is one line of a list of moves.
type Move struct {
	Line int64
	RenameRule
}

// BadLine is a line of a list of moves that cannot be right, and why.
type BadLine struct {
	Line int64
	Why  string
}

// String names the line as editors count it.
func (b BadLine) String() string { return fmt.Sprintf("line %d: %s", b.Line, b.Why) }

// BadLines keeps the first bad lines of a list with what is wrong with them, and of the
// others the numbers.
type BadLines struct {
	First []BadLine
	Total int64
	rest  []lines
}

// lines are those from one to another.
type lines struct{ from, to int64 }

// shownBadLines is of how many bad lines of one list it is told what is wrong with them.
const shownBadLines = 20

// Add takes a bad line, which was not added before.
func (b *BadLines) Add(line int64, why string) {
	b.Total++
	if len(b.First) < shownBadLines {
		b.First = append(b.First, BadLine{line, why})
		return
	}
	if last := len(b.rest) - 1; last >= 0 && b.rest[last].to == line-1 { // a list that is bad as a whole takes no room
		b.rest[last].to = line
		return
	}
	b.rest = append(b.rest, lines{line, line})
}

// Rest names the lines after the first ones, in their order: "21 to 40, 57". It is empty
// when there are no more.
func (b *BadLines) Rest() string {
	slices.SortFunc(b.rest, func(x, y lines) int { return cmp.Compare(x.from, y.from) })
	var joined []lines
	for _, l := range b.rest {
		if last := len(joined) - 1; last >= 0 && joined[last].to == l.from-1 {
			joined[last].to = l.to
		} else {
			joined = append(joined, l)
		}
	}
	names := make([]string, len(joined))
	for i, l := range joined {
		names[i] = strconv.FormatInt(l.from, 10)
		if l.to > l.from {
			names[i] = fmt.Sprintf("%d to %d", l.from, l.to)
		}
	}
	return strings.Join(names, ", ")
}
