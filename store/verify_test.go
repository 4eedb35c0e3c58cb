package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

func TestVerifyLooksAtEveryRow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write string // what somebody does after the moves
		want  resilience.Verified
		says  string
		kind  error
	}{
		"AsItShouldBe": {``, resilience.Verified{Last: 6, Total: 6}, "", nil},
		"MovedOn":      {`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 5`, resilience.Verified{Last: 6, Total: 6, Since: 1}, "", nil},
		"Deleted":      {`DELETE FROM rehome.chunks WHERE ordinal IN (1, 5)`, resilience.Verified{Last: 6, Total: 6, Since: 2}, "", nil},
		"Edited":       {`UPDATE rehome.chunks SET content = 'new'`, resilience.Verified{Last: 6, Total: 6}, "", nil},
		"Foreign": {
			`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'b.md', 9, 'x')`,
			resilience.Verified{Last: 6, Total: 6, Foreign: 1},
			"", nil,
		},
		"Back":        {`UPDATE rehome.chunks SET path = 'a.md' WHERE ordinal = 5`, resilience.Verified{}, "1 chunks that had moved are back at their old path (see chunk 5);", store.ErrReturned},
		"NoJournal":   {`UPDATE rehome.migration_runs SET first = 5, chunk_ids = chunk_ids[5:]`, resilience.Verified{}, "the journal has 0 of 2", store.ErrVerify},
		"NotAtTheEnd": {`UPDATE rehome.migration_progress SET last = 5`, resilience.Verified{}, "has not moved all", store.ErrVerify},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(6, "a.md")
			id, err := m.plan("", rule("a.md", "b.md"))
			require.NoError(t, err)
			m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal = 2`) // an exception already
			m.apply(id, -1)
			if c.write != "" {
				m.exec(c.write)
			}
			var got resilience.Verified
			for err == nil && (got.Total == 0 || got.Last < got.Total) {
				got, err = m.store.Verify(t.Context(), id, got, 2)
			}
			if c.says != "" {
				require.ErrorIs(t, err, c.kind)
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			for range 2 { // as an activity that is tried again
				got.Foreign, err = m.store.VerifyTargets(t.Context(), id)
				require.NoError(t, err)
			}
			require.Equal(t, c.want, got)
			events, err := m.store.Events(t.Context(), id)
			require.NoError(t, err)
			foreign := 0
			for _, e := range events {
				if e.What == "foreign" {
					foreign++
				}
			}
			require.EqualValues(t, got.Foreign, foreign)
			plan := m.complete(id)
			require.Equal(t, 5-c.want.Since, plan.Moved)
		})
	}
}
