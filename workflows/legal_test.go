package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// keeper is an actor that keeps the status of its plan by the table of legal
// moves, as the store does.
type keeper struct {
	*actor
	status   resilience.Status
	switched bool
	away     bool  // the vector index is
	taken    bool  // it was
	retired  int64 // rows of a transfer that have left their memory
	begins   func(begin func())
	shut     []resilience.Gate
}

// become is the store's: a plan that is there already stays as it is.
func (k *keeper) become(next resilience.Status) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status != next && !k.status.CanBecome(next) {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("it is %s and cannot become %s", k.status, next), activities.Conflict, nil)
	}
	k.status = next
	return nil
}

func (k *keeper) QueueMigration(ctx context.Context, in activities.QueueInput) error {
	if err := k.become(resilience.Queued); err != nil {
		return err
	}
	return k.actor.QueueMigration(ctx, in)
}

func (k *keeper) RequestApproval(ctx context.Context, in activities.PlanInput) error {
	if err := k.become(resilience.AwaitingApproval); err != nil {
		return err
	}
	return k.actor.RequestApproval(ctx, in)
}

func (k *keeper) BeginMigration(ctx context.Context, in activities.BeginInput) (b activities.Beginning, err error) {
	begin := func() {
		if err = k.become(resilience.Executing); err == nil {
			b, err = k.actor.BeginMigration(ctx, in)
		}
	}
	if k.begins != nil {
		k.begins(begin)
	} else {
		begin()
	}
	return b, err
}

func (k *keeper) PauseMigration(ctx context.Context, in activities.PlanInput) error {
	if err := k.become(resilience.Paused); err != nil {
		return err
	}
	return k.actor.PauseMigration(ctx, in)
}

func (k *keeper) ResumeMigration(ctx context.Context, in activities.PlanInput) (activities.Turn, error) {
	if err := k.become(resilience.Executing); err != nil {
		return activities.Turn{}, err
	}
	return k.actor.ResumeMigration(ctx, in)
}

func (k *keeper) CancelMigration(ctx context.Context, in activities.PlanInput) error {
	if err := k.become(resilience.Cancelled); err != nil {
		return err
	}
	return k.actor.CancelMigration(ctx, in)
}

func (k *keeper) BeginUndo(ctx context.Context, in activities.PlanInput) (resilience.Watermark, error) {
	if err := k.become(resilience.RollingBack); err != nil {
		return resilience.Watermark{}, err
	}
	return k.actor.BeginUndo(ctx, in)
}

func (k *keeper) SwitchAliases(context.Context, activities.PlanInput) error {
	return k.during(resilience.Executing, "SwitchAliases", true)
}

func (k *keeper) UndoSwitchAliases(context.Context, activities.PlanInput) error {
	return k.during(resilience.RollingBack, "UndoSwitchAliases", false)
}

// during is the store's: aliases change only while the plan is in a status.
func (k *keeper) during(status resilience.Status, name string, switched bool) error {
	var refused error
	err := k.do(name, func() {
		if k.status != status {
			refused = temporal.NewNonRetryableApplicationError(fmt.Sprintf("it is %s", k.status), activities.Conflict, nil)
			return
		}
		k.switched = switched
	})
	if err == nil {
		err = refused
	}
	return err
}

func (k *keeper) CompleteMigration(ctx context.Context, in activities.PlanInput) error {
	if err := k.become(resilience.Completed); err != nil {
		return err
	}
	return k.actor.CompleteMigration(ctx, in)
}

func (k *keeper) EndUndo(ctx context.Context, in activities.PlanInput) error {
	if k.at.Last != 0 || k.retired != 0 {
		return temporal.NewNonRetryableApplicationError("rows are left", activities.Conflict, nil)
	}
	if err := k.become(resilience.RolledBack); err != nil {
		return err
	}
	return k.actor.EndUndo(ctx, in)
}

func (k *keeper) FailUndo(ctx context.Context, in activities.PlanInput) error {
	if err := k.become(resilience.Failed); err != nil {
		return err
	}
	return k.actor.FailUndo(ctx, in)
}

func kept(t *testing.T, c course) (*testsuite.TestWorkflowEnvironment, *keeper) {
	t.Helper()
	env := silent().NewTestWorkflowEnvironment()
	env.SetTestTimeout(patiently)
	k := &keeper{status: resilience.Pending, actor: &actor{
		fails: map[string]error{}, slice: 10, at: resilience.Watermark{Total: 30, Epoch: 1, Wish: resilience.WishRun}, plan: risky(),
	}}
	if c.transfer {
		k.plan.Kind, k.plan.Transfer = resilience.Transfer, &resilience.Transferring{Back: c.undoes}
	}
	if c.rebuild {
		k.plan.Way, k.plan.Physics.VectorIndexes = resilience.Rebuild, []string{"near"}
	}
	workflows.Register(env)
	env.RegisterActivity(k)
	return env, k
}

// TestAnOrderIsSafeInEveryState gives every order while each activity in turn
// runs, on the way forward and on the way back, and finds the plan in an end
// that the table of legal moves knows, with its rows and aliases on one side.
func TestAnOrderIsSafeInEveryState(t *testing.T) {
	t.Parallel()
	for _, c := range courses() {
		for name := range orders {
			for _, step := range slices.Concat(c.forward, c.back) {
				t.Run(fmt.Sprint(c.name, "/", name, "/", step), func(t *testing.T) {
					t.Parallel()
					legal(t, c, name, step)
				})
			}
		}
	}
}

func legal(t *testing.T, c course, name, step string) {
	_, k := kept(t, c)
	undone := c.undone(step)
	if undone {
		k.fails[c.breaks] = errInjected
	}
	if step == "NoteMigration" {
		k.fails["RevertSlice"] = errInjected
	}
	v, given := &voice{T: t}, false
	started := func(name string) bool {
		first := name == step && !given
		given = given || first
		return first
	}
	runs, err := inRuns(t, c, k, func(env *testsuite.TestWorkflowEnvironment, run int) {
		v.env = env
		v.resumes(run)
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			switch info.ActivityType.Name {
			case "RequestApproval":
				v.approves(1)
			case "NoteMigration":
				delete(k.fails, "RevertSlice")
			}
			if started(info.ActivityType.Name) {
				orders[name](v, c)
			}
		})
		env.SetOnLocalActivityStartedListener(func(info *activity.Info, _ context.Context, _ []any) {
			if started(info.ActivityType.Name) {
				orders[name](v, c)
			}
		})
	})
	require.True(t, given, "the step never ran")
	if step == "MoveSlice" || step == "RetireSlice" && !undone {
		for _, obeyed := range obeyed[name] {
			require.Contains(t, k.did(), obeyed)
		}
		require.Equal(t, name == "Change", runs > 0)
	}
	v.judge(c, k, name, undone, err)
}

// judge finds a plan in an end that the table of legal moves knows, and that an abort was
// told of.
func (v *voice) judge(c course, k *keeper, order string, undone bool, err error) {
	v.Helper()
	k.mu.Lock() // an activity may outlive a run that was cancelled
	defer k.mu.Unlock()
	ran := strings.Join(k.ran, " ")
	require.False(v, k.away, "nobody builds the index: %s", ran)
	ends := order == "Cancel" || order == "Abort"
	switch k.status {
	case resilience.Completed:
		require.Equal(v, k.at.Total, k.at.Last, ran)
		require.True(v, k.switched, ran)
		require.False(v, undone, ran)
		require.Equal(v, c.transfer, k.retired == k.at.Total, ran)
		require.Empty(v, v.answer, ran)
	case resilience.RolledBack:
		require.Zero(v, k.at.Last+k.retired, ran)
		require.False(v, k.switched, ran)
		require.True(v, undone || ends, "%s undid it: %s", order, ran)
		require.Contains(v, []resilience.Status{"", resilience.RollingBack}, v.answer, ran)
		require.Error(v, err)
	case resilience.Cancelled:
		require.Zero(v, k.at.Last+k.retired, ran)
		require.False(v, k.switched, ran)
		require.True(v, ends, "%s cancelled it: %s", order, ran)
		require.Contains(v, []resilience.Status{"", resilience.Cancelled}, v.answer, ran)
		require.Error(v, err)
	default:
		require.Fail(v, "ended as "+string(k.status), ran)
	}
}
