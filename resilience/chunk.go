package resilience

import (
	"maps"
	"slices"
)

// Chunk is a row of a builtin memory, as far as it decides what becomes of it
// when its file was edited.
type Chunk struct {
	ID      string
	Ordinal int // place among the chunks of its file, from 0
	Content string
	Held    bool // a person wants it kept
}

// ChunkPlace is a chunk that stays and the place it has now.
type ChunkPlace struct {
	ID      string
	Ordinal int
}

// ChunkDiff is what turns the chunks of a file into those of its present text.
type ChunkDiff struct {
	Kept     int          // rows whose text is still there: their ids and embeddings stay
	Moved    []ChunkPlace // of the kept rows those with another place now
	Insert   []int        // places of the text that no row has
	Replaced []string     // rows whose text is gone
}

// DiffChunks compares the rows of a file with the pieces of its text. A row
// stays for a piece that has its very text, wherever that stands now; of equal
// ones the first row stays for the first piece. A held row is never replaced.
func DiffChunks(have []Chunk, pieces []string) ChunkDiff {
	have = slices.SortedStableFunc(slices.Values(have), func(a, b Chunk) int { return a.Ordinal - b.Ordinal })
	rows := make(map[string][]Chunk, len(have))
	for _, c := range have {
		rows[c.Content] = append(rows[c.Content], c)
	}
	var diff ChunkDiff
	for place, text := range pieces {
		same := rows[text]
		if len(same) == 0 {
			diff.Insert = append(diff.Insert, place)
			continue
		}
		rows[text] = same[1:]
		diff.Kept++
		if same[0].Ordinal != place {
			diff.Moved = append(diff.Moved, ChunkPlace{same[0].ID, place})
		}
	}
	for _, c := range have {
		if left := rows[c.Content]; len(left) > 0 && left[0].ID == c.ID {
			rows[c.Content] = left[1:]
			if !c.Held {
				diff.Replaced = append(diff.Replaced, c.ID)
			}
		}
	}
	return diff
}

// Ingested counts what an ingest has done.
type Ingested struct {
	Files           IngestedFiles    `json:"files"`
	SkippedByReason map[string]int64 `json:"skipped_by_reason"`
	Chunks          IngestedChunks   `json:"chunks"`
	Bytes           int64            `json:"bytes"` // of text read
}

// IngestedFiles sums up what became of the files: seen is the sum of the others.
type IngestedFiles struct {
	Seen      int64 `json:"seen"`
	New       int64 `json:"new"`
	Changed   int64 `json:"changed"`
	Unchanged int64 `json:"unchanged"`
	Skipped   int64 `json:"skipped"`
}

// IngestedChunks sums up what became of the chunks.
type IngestedChunks struct {
	New      int64 `json:"new"`
	Kept     int64 `json:"kept"`
	Replaced int64 `json:"replaced"`
}

// Clone returns counts that can be added to without touching i.
func (i Ingested) Clone() Ingested {
	i.SkippedByReason = maps.Clone(i.SkippedByReason)
	return i
}

// Skip counts something that was left out, and why.
func (i *Ingested) Skip(reason string) {
	if i.SkippedByReason == nil {
		i.SkippedByReason = map[string]int64{}
	}
	i.Files.Seen++
	i.Files.Skipped++
	i.SkippedByReason[reason]++
}
