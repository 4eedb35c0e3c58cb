package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// statusOrders are the orders that change the status of a plan, to which one, and the
// row that the plan stands at. Those that close it come when all of its rows are where
// they are to be, at the end of the journal or at its beginning.
var statusOrders = []struct {
	name  string
	last  string
	to    resilience.Status
	order func(s *store.Store, ctx context.Context, id string) error
}{
	{"RequestApproval", "0", resilience.AwaitingApproval, func(s *store.Store, ctx context.Context, id string) error {
		return s.RequestApproval(ctx, id, "a test")
	}},
	{"Queue", "0", resilience.Queued, (*store.Store).Queue},
	{"Begin", "0", resilience.Executing, (*store.Store).Begin},
	{"CancelPlan", "0", resilience.Cancelled, func(s *store.Store, ctx context.Context, id string) error {
		return s.CancelPlan(ctx, id, "ana", "a test")
	}},
	{"Pause", "0", resilience.Paused, func(s *store.Store, ctx context.Context, id string) error {
		return s.Pause(ctx, id, "ana", "a test")
	}},
	{"Resume", "0", resilience.Executing, func(s *store.Store, ctx context.Context, id string) error {
		_, _, err := s.Resume(ctx, id, "ana", "a test", nil)
		return err
	}},
	{"BeginUndo", "total", resilience.RollingBack, func(s *store.Store, ctx context.Context, id string) error {
		_, err := s.BeginUndo(ctx, id, "a test", "ana")
		return err
	}},
	{"EndUndo", "0", resilience.RolledBack, (*store.Store).EndUndo},
	{"FailUndo", "total", resilience.Failed, func(s *store.Store, ctx context.Context, id string) error {
		return s.FailUndo(ctx, id, "a test")
	}},
	{"Complete", "total", resilience.Completed, (*store.Store).Complete},
}

// TestOrdersMakeLegalMovesOnly gives every order that changes the status to a plan in
// every status. Where the table of legal moves has it, the order is carried out; given
// again, it does nothing; else it is refused. And there is an order for each move.
func TestOrdersMakeLegalMovesOnly(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(1, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	for _, from := range resilience.Statuses() {
		for _, o := range statusOrders {
			m.exec(`DELETE FROM rehome.migration_slots`)
			m.exec(`UPDATE rehome.migration_plans SET status = $1, queued_at = NULL, finished_at = NULL`, from)
			m.exec(`UPDATE rehome.migration_progress SET wish = 'run', last = ` + o.last)
			err := o.order(m.store, t.Context(), id)
			if from == o.to || from.CanBecome(o.to) {
				require.NoError(t, err, "%s of a plan that is %s", o.name, from)
				require.Equal(t, o.to, m.read(id).Status, "%s of a plan that was %s", o.name, from)
			} else {
				require.ErrorIs(t, err, store.ErrConflict, "%s of a plan that is %s", o.name, from)
				require.Equal(t, from, m.read(id).Status, o.name)
			}
		}
	}
	for _, to := range resilience.Statuses() {
		ordered := false
		for _, o := range statusOrders {
			ordered = ordered || o.to == to
		}
		require.Equal(t, len(to.Before()) > 0, ordered, to)
	}
}
