package workflows_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// putsBack is an application that does not let go of a copy.
func (in *installation) putsBack(ordinal int) {
	in.Helper()
	in.exec(`CREATE FUNCTION public.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO rehome.chunks OVERRIDING SYSTEM VALUE SELECT OLD.*; RETURN NULL; END $$`)
	in.exec(`CREATE TRIGGER again AFTER DELETE ON rehome.chunks FOR EACH ROW WHEN (OLD.memory = 'archive' AND OLD.ordinal = ` + strconv.Itoa(ordinal) + `) EXECUTE FUNCTION public.again()`)
}

// TestTheUndoOfATransferLooksAtAllRows, whenever it comes: a copy that stands in the
// target again, after its batch found it gone, is listed with the reason.
func TestTheUndoOfATransferLooksAtAllRows(t *testing.T) {
	t.Parallel()
	for name, undo := range map[string]func(in *installation) (id string, status resilience.Status){
		"in its soak": func(in *installation) (string, resilience.Status) {
			id, run := in.transfer(resilience.Batch, 3600)
			in.soaking(id, 20)
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			require.Equal(in, workflows.Aborted, ends(in.T, run, nil))
			return id, resilience.RolledBack
		},
		"when its rows have retired": func(in *installation) (string, resilience.Status) {
			in.faults.inject("CompleteMigration", fault{times: 1})
			id, run := in.transfer(resilience.Batch, 0)
			require.Equal(in, "Injected", ends(in.T, run, nil))
			return id, resilience.RolledBack
		},
		"when it is completed": func(in *installation) (string, resilience.Status) {
			id, run := in.transfer(resilience.Batch, 0)
			require.Empty(in, ends(in.T, run, nil))
			id, run = in.rollback(id)
			require.Empty(in, ends(in.T, run, nil))
			return id, resilience.Completed
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.withArchive()
			in.fill("guide/a.md", 20)
			in.putsBack(3)
			id, status := undo(in)
			require.Equal(t, status, in.plan(id).Status)
			require.Equal(t, 20, in.of("docs"))
			require.Equal(t, 1, in.of("archive"))
			left, err := in.store.Exceptions(t.Context(), id, 10)
			require.NoError(t, err)
			require.Len(t, left, 1)
			require.Equal(t, resilience.Clashed, left[0].Outcome)
			require.Contains(t, left[0].Detail, "its copy was put back into memory archive")
		})
	}
}

// TestTheUndoOfARenameLooksAtAllRows: a chunk that is taken from its old path, after
// its batch found it there, is listed.
func TestTheUndoOfARenameLooksAtAllRows(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 20)
	in.exec(`CREATE FUNCTION public.takes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE rehome.chunks SET path = 'manual/a.md' WHERE ordinal = 3; RETURN NULL; END $$`)
	in.exec(`CREATE CONSTRAINT TRIGGER takes AFTER UPDATE ON rehome.migration_progress DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.last = 0 AND OLD.last > 0) EXECUTE FUNCTION public.takes()`)
	in.faults.inject("SwitchAliases", fault{times: 1})
	id, run := in.migrate(resilience.Policy{}, theGuide)
	require.Equal(t, "Injected", ends(t, run, nil))
	require.Equal(t, resilience.RolledBack, in.plan(id).Status)
	left, err := in.store.Exceptions(t.Context(), id, 10)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, resilience.Drifted, left[0].Outcome)
	require.True(t, left[0].Undoing)
	require.Equal(t, "it is at its new path", left[0].Detail)
}

// TestTheLookAtAnUndoneRenameCanBeLeftOut, with a reason: each of its batches was
// verified, and a damaged journal, say, is not to keep a plan open for ever.
func TestTheLookAtAnUndoneRenameCanBeLeftOut(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]string{"the look": "VerifyUndo", "the end": "EndUndo"} {
		env, k := kept(t, course{})
		k.fails["SwitchAliases"], k.fails[fails] = errInjected, errInjected
		env.RegisterDelayedCallback(func() {
			env.UpdateWorkflowNoRejection(workflows.SkipUpdate, "skip", t, workflows.Order{Author: "ana", Reason: "it is known"})
		}, 3*time.Second) // before it tries by itself
		in := planned()
		in.Approve = true
		env.ExecuteWorkflow(batch(), in)
		if name == "the end" {
			require.ErrorContains(t, env.GetWorkflowError(), "left out by ana: it is known")
			continue
		}
		require.ErrorContains(t, env.GetWorkflowError(), "injected", "why it was undone")
		require.Equal(t, resilience.RolledBack, k.status)
		require.Equal(t, []string{"VerifyUndo", "NoteMigration stuck", "NoteMigration skipped", "EndUndo", "NoteMigration goes on", "ReadMigration"}, k.did()[len(k.did())-6:])
	}
}

// TestALookThatWasCutGoesOnWhereItWas, also when it was stuck.
func TestALookThatWasCutGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	env, k := kept(t, course{})
	k.fails["SwitchAliases"] = errInjected
	var from []int64
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		if info.ActivityType.Name != "VerifyUndo" {
			return
		}
		var in activities.VerifyInput
		require.NoError(t, args.Get(&in))
		from = append(from, in.At.Last)
		switch len(from) {
		case 2:
			k.fails["VerifyUndo"] = errInjected
		case 3:
			delete(k.fails, "VerifyUndo")
		}
	})
	in := planned()
	in.Approve = true
	env.ExecuteWorkflow(batch(), in)
	require.Equal(t, resilience.RolledBack, k.status)
	require.Equal(t, []int64{0, 20, 20}, from)
}

// undoneTransfer is a rehearsal of a transfer that fails in its last step, and of
// which something is left when it has gone back.
func undoneTransfer(t *testing.T, order func(k *keeper, tell func(update string))) (*keeper, error) {
	t.Helper()
	env, k := kept(t, course{transfer: true})
	k.plan.Risk = resilience.Risk{}
	k.fails["RetireSlice"], k.fails["VerifyUndo"] = errInjected, errInjected
	env.RegisterDelayedCallback(func() {
		order(k, func(update string) {
			env.UpdateWorkflowNoRejection(update, update, t, workflows.Order{Author: "ana", Reason: "it is known"})
		})
	}, 3*time.Second) // before it tries by itself
	env.ExecuteWorkflow(batch(), carried())
	return k, env.GetWorkflowError()
}

// TestWhatIsLeftKeepsATransferFromBeingClosed until a person has mended it; all rows
// are looked at then.
func TestWhatIsLeftKeepsATransferFromBeingClosed(t *testing.T) {
	t.Parallel()
	k, err := undoneTransfer(t, func(k *keeper, tell func(string)) {
		delete(k.fails, "VerifyUndo")
		tell(workflows.RetryUpdate)
	})
	require.ErrorContains(t, err, "injected", "why it was undone")
	require.Equal(t, resilience.RolledBack, k.status)
	ran := slices.DeleteFunc(k.did(), func(s string) bool { return s == "RevertSlice" })
	require.Equal(t, []string{
		"VerifyUndo", "NoteMigration stuck", "NoteMigration retried", "VerifyUndo", "VerifyUndo", "EndUndo", "NoteMigration goes on", "ReadMigration",
	}, ran[len(ran)-8:])
}

// TestATransferThatWasNotLookedAtIsNotRolledBack, although a person lets it end.
func TestATransferThatWasNotLookedAtIsNotRolledBack(t *testing.T) {
	t.Parallel()
	k, err := undoneTransfer(t, func(_ *keeper, tell func(string)) { tell(workflows.SkipUpdate) })
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, workflows.RollbackFailed, app.Type())
	require.ErrorContains(t, app, "close the plan as rolled back: left out by ana: it is known")
	require.Equal(t, resilience.Failed, k.status)
	require.NotContains(t, k.did(), "EndUndo")
}
