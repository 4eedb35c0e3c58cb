package resilience_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

// rowsOf makes a chunk of each letter, with the place as its id; a capital
// letter is a held one.
func rowsOf(texts string) []resilience.Chunk {
	var rows []resilience.Chunk
	for i, text := range strings.Split(texts, "") {
		rows = append(rows, resilience.Chunk{ID: string(rune('0' + i)), Ordinal: i, Content: strings.ToLower(text), Held: text != strings.ToLower(text)})
	}
	return rows
}

func TestDiffChunks(t *testing.T) {
	t.Parallel()
	place := func(id string, at int) resilience.ChunkPlace { return resilience.ChunkPlace{ID: id, Ordinal: at} }
	for name, test := range map[string]struct {
		have, text string
		want       resilience.ChunkDiff
	}{
		"Nothing":           {"", "", resilience.ChunkDiff{}},
		"FirstTime":         {"", "abc", resilience.ChunkDiff{Insert: []int{0, 1, 2}}},
		"AsItWas":           {"abc", "abc", resilience.ChunkDiff{Kept: 3}},
		"EditInTheMiddle":   {"abc", "axc", resilience.ChunkDiff{Kept: 2, Insert: []int{1}, Replaced: []string{"1"}}},
		"PutInFront":        {"ab", "xab", resilience.ChunkDiff{Kept: 2, Insert: []int{0}, Moved: []resilience.ChunkPlace{place("0", 1), place("1", 2)}}},
		"Emptied":           {"ab", "", resilience.ChunkDiff{Replaced: []string{"0", "1"}}},
		"Swapped":           {"ab", "ba", resilience.ChunkDiff{Kept: 2, Moved: []resilience.ChunkPlace{place("1", 0), place("0", 1)}}},
		"FirstOfEqualsStay": {"aaa", "aa", resilience.ChunkDiff{Kept: 2, Replaced: []string{"2"}}},
		"OneMoreEqual":      {"aa", "aaa", resilience.ChunkDiff{Kept: 2, Insert: []int{2}}},
		"HeldStays":         {"aB", "a", resilience.ChunkDiff{Kept: 1}},
		"HeldIsUsed":        {"aB", "ab", resilience.ChunkDiff{Kept: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pieces := strings.Split(test.text, "")
			require.Equal(t, test.want, resilience.DiffChunks(rowsOf(test.have), pieces))
		})
	}
}

// What a diff makes of the rows is the text; and it makes it of as many of them
// as can be.
func TestDiffChunksProperties(t *testing.T) {
	t.Parallel()
	letters := rapid.StringOfN(rapid.RuneFrom([]rune("abcd")), 0, 12, -1)
	rapid.Check(t, func(r *rapid.T) {
		rows := rowsOf(letters.Draw(r, "have"))
		pieces := strings.Split(letters.Draw(r, "text"), "")
		shuffled := rapid.Permutation(rows).Draw(r, "order")
		diff := resilience.DiffChunks(shuffled, pieces)

		places := map[string]int{}
		for _, c := range rows {
			places[c.ID] = c.Ordinal
		}
		for _, m := range diff.Moved {
			places[m.ID] = m.Ordinal
		}
		made := make([]string, len(pieces))
		for _, c := range rows {
			if !slices.Contains(diff.Replaced, c.ID) {
				require.Empty(r, made[places[c.ID]], "two rows at one place")
				made[places[c.ID]] = c.Content
			}
		}
		for _, at := range diff.Insert {
			require.Empty(r, made[at])
			made[at] = pieces[at]
		}
		require.Equal(r, pieces, made)
		require.Equal(r, len(pieces), diff.Kept+len(diff.Insert))
		require.Equal(r, len(rows), diff.Kept+len(diff.Replaced))
		for _, id := range diff.Replaced {
			left := slices.IndexFunc(rows, func(c resilience.Chunk) bool { return c.ID == id })
			for _, at := range diff.Insert {
				require.NotEqual(r, rows[left].Content, pieces[at], "replaced and put in again")
			}
		}
	})
}
