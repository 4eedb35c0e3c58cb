package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// closing are the orders that close a plan: they come when all of its rows are where
// they are to be, at the end of the journal or at its beginning.
var closing = map[string]string{"Complete": "total", "EndUndo": "0"}

var storeOrders = map[string]func(s *store.Store, ctx context.Context, id string) error{
	"RequestApproval": func(s *store.Store, ctx context.Context, id string) error {
		return s.RequestApproval(ctx, id, "a test")
	},
	"Queue": (*store.Store).Queue,
	"Begin": (*store.Store).Begin,
	"CancelPlan": func(s *store.Store, ctx context.Context, id string) error {
		return s.CancelPlan(ctx, id, "ana", "a test")
	},
	"Pause": func(s *store.Store, ctx context.Context, id string) error { return s.Pause(ctx, id, "ana", "a test") },
	"Resume": func(s *store.Store, ctx context.Context, id string) error {
		_, _, err := s.Resume(ctx, id, "ana", "a test", nil)
		return err
	},
	"BeginUndo": func(s *store.Store, ctx context.Context, id string) error {
		_, err := s.BeginUndo(ctx, id, "a test", "ana")
		return err
	},
	"EndUndo":  (*store.Store).EndUndo,
	"FailUndo": func(s *store.Store, ctx context.Context, id string) error { return s.FailUndo(ctx, id, "a test") },
	"Complete": (*store.Store).Complete,
}

// TestOrdersMakeLegalMovesOnly gives every order to a plan in every status. What comes
// of it stands in the table of legal moves, and each move of the table is made.
func TestOrdersMakeLegalMovesOnly(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(1, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	made := map[resilience.Status][]resilience.Status{}
	for _, from := range resilience.Statuses() {
		for name, order := range storeOrders {
			m.exec(`DELETE FROM rehome.migration_slots`)
			m.exec(`UPDATE rehome.migration_plans SET status = $1, queued_at = NULL, finished_at = NULL`, from)
			m.exec(`UPDATE rehome.migration_progress SET wish = 'run'`)
			if last, closes := closing[name]; closes {
				m.exec(`UPDATE rehome.migration_progress SET last = ` + last)
			}
			err := order(m.store, t.Context(), id)
			to := m.read(id).Status
			switch {
			case to == from:
			case from.CanBecome(to):
				require.NoError(t, err)
				made[from] = append(made[from], to)
			default:
				require.Fail(t, "an illegal move", "%s made %s of a plan that was %s", name, to, from)
			}
			if err != nil {
				require.ErrorIs(t, err, store.ErrConflict, "%s of a plan that is %s", name, from)
			}
		}
	}
	for _, from := range resilience.Statuses() {
		for _, to := range resilience.Statuses() {
			if from != resilience.Completed { // that is undone by the completion of another plan
				require.Equal(t, from.CanBecome(to), slices.Contains(made[from], to), "%s to %s", from, to)
			}
		}
	}
}
