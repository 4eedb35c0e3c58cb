package resilience

import "fmt"

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

// BadLines keeps the first bad lines of a list and counts all.
type BadLines struct {
	First []BadLine
	Total int64
}

// shownBadLines is how many bad lines are told of one list.
const shownBadLines = 20

// Add takes a bad line, which was not added before.
func (b *BadLines) Add(line int64, why string) {
	b.Total++
	if len(b.First) < shownBadLines {
		b.First = append(b.First, BadLine{line, why})
	}
}
