package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/workflows"
)

// migrateOrder is what a person asks of `starter migrate`.
type migrateOrder struct {
	strategy string
	renames  []string
	moves    string
	transfer transferFlags
	policy   resilience.Policy
	planOnly bool
	approve  bool
	detach   bool
}

func migrateCommand(s *session) *cobra.Command {
	var order migrateOrder
	c := &cobra.Command{
		Use:   "migrate --rename OLD=NEW [--rename OLD=NEW]... | --moves FILE|-",
		Short: "Let chunks follow their files to new paths",
		Long: `Let chunks follow their files to new paths: the path of every chunk at or under
OLD becomes the one at or under NEW, embeddings stay as they are, and OLD
resolves to NEW from then on. Paths are relative to the memory's root.

All renames of one command happen at the same moment: a=b and b=a swap the two,
and of two renames the longer OLD wins. An = or \ in OLD is written \= or \\.

--moves reads up to a million renames from a file, or from standard input: CSV
with the columns source and target, with or without that header, or one JSON
object {"source": "…", "target": "…"} a line. When a line is bad, nothing starts.

A plan of high risk, and every plan with --plan-only, waits for an approval.
When a batch, or what follows the batches, fails for good, --on-failure says what
becomes of what was done. On abort, everything is put back.`,
		Example: `  starter migrate --rename guide=handbook
  starter migrate --rename a.md=b.md --rename b.md=c.md --rate 500
  git -c core.quotePath=off diff -M --diff-filter=R --name-status HEAD~1 -- '*.md' | awk -F'\t' '{print $2","$3}' | starter migrate --moves -
  starter migrate --moves moves.jsonl --plan-only
  starter migrate --rename guide=handbook --strategy gradual --hours '22:00-06:00 Europe/Berlin' --detach
  starter migrate --memory docs --rename 'odd\=name.md=plain.md' --on-failure stop`,
		Args: cobra.NoArgs,
		RunE: s.do(func(ctx context.Context, _ []string) error { return s.migrate(ctx, order) }),
	}
	migrateFlags(c, &order)
	return c
}

func migrateFlags(c *cobra.Command, order *migrateOrder) {
	flags := c.Flags()
	flags.StringVar(&order.strategy, "strategy", string(resilience.Batch), "how to move: "+oneOf(resilience.Strategies()))
	flags.StringArrayVar(&order.renames, "rename", nil, "what was at OLD, a file or a directory, is now at NEW")
	flags.StringVar(&order.moves, "moves", "", "a list of renames, as CSV or JSON lines; - is standard input")
	flags.Float64Var(&order.policy.Rate, "rate", 0, "chunks a second at most; 0 is no bound; not with immediate")
	flags.IntVar(&order.policy.BatchSize, "batch-size", 0, "chunks in one transaction, with gradual at most, with intelligent while its forecasts are off; 0 takes the setting migration_batch_size, and what gradual finds right; not with immediate")
	flags.StringVar((*string)(&order.policy.OnFailure), "on-failure", string(resilience.UndoAll), "when a batch fails for good: "+oneOf(failurePolicies))
	flags.Int64Var(&order.policy.GroupSize, "group-size", 0, fmt.Sprintf("chunks that undo_group puts back at most; 0 is %d", int64(resilience.DefaultGroupSize)))
	flags.StringVar(&order.policy.Hours, "hours", "", "hours of the day in which gradual may work, such as 22:00-06:00 Europe/Berlin")
	flags.StringVar((*string)(&order.policy.Way), "way", "", "with intelligent: move all chunks this way, "+oneOf(resilience.Ways()))
	flags.BoolVar(&order.planOnly, "plan-only", false, "make the plan, show it, and let it wait for an approval")
	flags.BoolVar(&order.approve, "approve", false, "approve the plan, whatever its risk")
	detachFlag(c, &order.detach)
	order.transfer.add(c)
	c.MarkFlagsMutuallyExclusive("rename", "moves")
	c.MarkFlagsMutuallyExclusive("plan-only", "approve")
	completeWith(c, "strategy", resilience.Strategies())
	completeWith(c, "way", resilience.Ways())
	completeWith(c, "on-failure", failurePolicies)
}

var failurePolicies = []resilience.OnFailure{resilience.UndoAll, resilience.Stop, resilience.UndoGroup}

// oneOf lists what a flag takes.
func oneOf[T ~string](values []T) string { return strings.Join(texts(values), ", ") }

// completeWith lets the shell complete a flag's value.
func completeWith[T ~string](c *cobra.Command, flag string, values []T) {
	complete := cobra.FixedCompletions(texts(values), cobra.ShellCompDirectiveNoFileComp)
	if err := c.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}

func texts[T ~string](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}

func (s *session) migrate(ctx context.Context, order migrateOrder) error {
	var rules []resilience.RenameRule
	chosen, err := resilience.ParseStrategy(order.strategy)
	if err != nil {
		return fail(exitUsage, "%w", err)
	}
	if err := checkPace(order.policy.Rate, order.policy.Check(chosen)); err != nil {
		return err
	}
	if order.moves == "" && order.transfer.to == "" {
		if rules, err = parseRenames(order.renames); err != nil {
			return err
		}
	}
	memory, err := s.theMemory(ctx)
	if err != nil {
		return err
	}
	in := workflows.MigrateInput{
		Origin: s.origin(), Memory: memory.Name, Migration: newID("m"), Renames: rules, Policy: order.policy,
		PlanOnly: order.planOnly, Approve: order.approve, Tuning: s.tuning,
	}
	in.Policy.Author = author()
	if in.TransferOrder, err = order.transfer.order(ctx, s, memory.Name, order.policy.Way); err != nil {
		return err
	}
	t := task{
		id: workflows.MigrateID(s.site.installation, memory.Name, in.Migration), name: workflows.MigrateName(chosen),
		memory: memory.Name, input: in, strategy: order.strategy, migration: in.Migration,
		look: "starter migration show " + in.Migration,
	}
	t.describe(rules, len(rules))
	order.transfer.describe(&t)
	t.goOn = s.attend(t)
	if order.moves != "" {
		return s.migrateMoves(ctx, t, order)
	}
	return s.performPlan(ctx, t, order)
}

// describe says in the web UI which renames a migration is about.
func (t *task) describe(first []resilience.RenameRule, renames int) {
	t.summary = fmt.Sprintf("Let chunks of %s follow %s", t.memory, count(renames, "rename"))
	t.details = renameTable(first, renames)
}

// performPlan runs a migration until it ends, or until its plan waits for a person.
func (s *session) performPlan(ctx context.Context, t task, order migrateOrder) error {
	run, err := s.start(ctx, t)
	if err != nil {
		if order.moves != "" {
			err = errors.Join(err, s.data.DropStaged(context.WithoutCancel(ctx), t.migration))
		}
		return err
	}
	var plan resilience.Plan
	finished, err := s.follow(ctx, t, run, order.detach, &plan)
	if errors.Is(err, errAwaitsApproval) {
		return s.showAsking(ctx, t, err, order.planOnly)
	}
	if err != nil || !finished {
		return err
	}
	return s.showPlan(plan)
}

func checkPace(rate float64, err error) error {
	if err == nil && math.IsInf(rate, 0) {
		err = fmt.Errorf("rate %v: want rows a second, 0 for no bound", rate)
	}
	if err != nil {
		return fail(exitUsage, "%w", err)
	}
	return nil
}

// parseRenames reads OLD=NEW, each a path a person typed.
func parseRenames(given []string) ([]resilience.RenameRule, error) {
	rules := make([]resilience.RenameRule, len(given))
	for i, text := range given {
		before, after, ok := cutRename(text)
		if !ok {
			return nil, fail(exitUsage, "rename %q: want OLD=NEW; an = in OLD is written \\=", text)
		}
		var err error
		if rules[i].Old, err = cleanPath(before); err != nil {
			return nil, err
		}
		if rules[i].New, err = cleanPath(after); err != nil {
			return nil, err
		}
	}
	if err := resilience.CheckRenames(rules); err != nil {
		return nil, fail(exitUsage, "%w", err)
	}
	return rules, nil
}

// cutRename splits at the first = that no backslash precedes. Only \= and \\
// are escapes; any other backslash stands for itself.
func cutRename(text string) (before, after string, ok bool) {
	var part strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '=' || text[i+1] == '\\'):
			i++
			part.WriteByte(text[i])
		case c == '=' && !ok:
			before, ok = part.String(), true
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	return before, part.String(), ok
}

// shownRenames is how many renames the web UI shows.
const shownRenames = 10

// renameTable shows the first of so many renames in the web UI.
func renameTable(first []resilience.RenameRule, renames int) string {
	first = first[:min(len(first), shownRenames)]
	var b strings.Builder
	b.WriteString(count(renames, "rename") + "\n\n| old path | new path |\n|---|---|\n")
	for _, r := range first {
		fmt.Fprintf(&b, "| %.200s | %.200s |\n", strings.ReplaceAll(r.Old, "|", `\|`), strings.ReplaceAll(r.New, "|", `\|`))
	}
	if more := renames - len(first); more > 0 {
		fmt.Fprintf(&b, "\nand %d more\n", more)
	}
	return b.String()
}
