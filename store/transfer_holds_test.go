package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// TestWhatComesHomeIsNotHeld, since its file is not gone: only what was held there until
// it changes is so as it came home, and what a person holds stays held.
func TestWhatComesHomeIsNotHeld(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		transferred, homes, _ := m.gone(from, to)
		m.exec(`DELETE FROM rehome.holds`)
		m.exec(`
			INSERT INTO rehome.holds (memory, chunk_id, reason, locator, content_hash, held_at)
			VALUES ($1, $2, 'restored', 'elsewhere', '', now() - interval '1 day'), ($1, $3, 'mine', NULL, NULL, now())`, from, homes[0], homes[1])
		id, err := m.transfer(from, transferred, resilience.TransferOrder{})
		require.NoError(m, err)
		require.NoError(m, m.store.Queue(m.Context(), id))
		require.NoError(m, m.store.Begin(m.Context(), id))
		m.retire(id, -1, false)
		require.Len(m, m.ids(from), 10)
		require.Equal(m, 2, m.count(`SELECT count(*) FROM rehome.holds`))
		require.Equal(m, 1, m.count(`SELECT count(*) FROM rehome.holds WHERE chunk_id = $1 AND locator LIKE '%guide/%' AND length(content_hash) = 32 AND held_at < now() - interval '1 hour'`, homes[0]))
		require.Equal(m, 1, m.count(`SELECT count(*) FROM rehome.holds WHERE chunk_id = $1 AND reason = 'mine' AND locator IS NULL AND content_hash IS NULL`, homes[1]))
	})
}
