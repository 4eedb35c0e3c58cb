package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/workflows"
)

func migrateCommand(s *session) *cobra.Command {
	var (
		strategy string
		renames  []string
		policy   resilience.Policy
		detach   bool
	)
	c := &cobra.Command{
		Use:   "migrate --rename OLD=NEW [--rename OLD=NEW]...",
		Short: "Let chunks follow their files to new paths",
		Long: `Let chunks follow their files to new paths: the path of every chunk at or under
OLD becomes the one at or under NEW, embeddings stay as they are, and OLD
resolves to NEW from then on. Paths are relative to the memory's root.

All renames of one command happen at the same moment: a=b and b=a swap the two,
and of two renames the longer OLD wins. An = or \ in OLD is written \= or \\.

When a step fails, or on abort, everything is put back.`,
		Example: `  starter migrate --rename guide=handbook
  starter migrate --rename a.md=b.md --rename b.md=c.md --rate 500
  starter migrate --memory docs --rename 'odd\=name.md=plain.md' --detach`,
		Args: cobra.NoArgs,
		RunE: s.do(func(ctx context.Context, _ []string) error {
			rules, err := parseRenames(renames)
			if err != nil {
				return err
			}
			return s.migrate(ctx, strategy, workflows.MigrateInput{Renames: rules, Policy: policy}, detach)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&strategy, "strategy", string(resilience.Batch), "how to move: batch")
	flags.StringArrayVar(&renames, "rename", nil, "what was at OLD, a file or a directory, is now at NEW")
	flags.Float64Var(&policy.Rate, "rate", 0, "chunks a second at most; 0 is no bound")
	flags.IntVar(&policy.BatchSize, "batch-size", 0, "chunks in one transaction; 0 takes the setting migration_batch_size")
	detachFlag(c, &detach)
	return c
}

func (s *session) migrate(ctx context.Context, strategy string, in workflows.MigrateInput, detach bool) error {
	chosen, err := resilience.ParseStrategy(strategy)
	if err != nil {
		return fail(exitUsage, "%w", err)
	}
	if err := checkPace(in.Policy.Rate, in.Policy.Check()); err != nil {
		return err
	}
	memory, err := s.theMemory(ctx)
	if err != nil {
		return err
	}
	in.Origin, in.Memory, in.Migration, in.Policy.Author, in.Tuning = s.origin(), memory.Name, newID("m"), author(), s.tuning
	t := task{
		id: workflows.MigrateID(s.site.installation, memory.Name, in.Migration), name: workflows.MigrateName(chosen),
		memory: memory.Name, input: in, strategy: strategy, migration: in.Migration,
		summary: fmt.Sprintf("Let chunks of %s follow %s", memory.Name, count(len(in.Renames), "rename")),
		details: renameTable(in.Renames),
		look:    "starter migration show " + in.Migration,
	}
	var plan resilience.Plan
	if finished, err := s.perform(ctx, t, detach, &plan); err != nil || !finished {
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

// renameTable shows the first renames in the web UI.
func renameTable(rules []resilience.RenameRule) string {
	const shown = 10
	var b strings.Builder
	b.WriteString(count(len(rules), "rename") + "\n\n| old path | new path |\n|---|---|\n")
	for _, r := range rules[:min(len(rules), shown)] {
		fmt.Fprintf(&b, "| %.200s | %.200s |\n", strings.ReplaceAll(r.Old, "|", `\|`), strings.ReplaceAll(r.New, "|", `\|`))
	}
	if more := len(rules) - shown; more > 0 {
		fmt.Fprintf(&b, "\nand %d more\n", more)
	}
	return b.String()
}

// showPlan writes a migration as it stands.
func (s *session) showPlan(p resilience.Plan) error {
	return s.show(p, func(w io.Writer) { planRows(w, p) })
}

func planRows(w io.Writer, p resilience.Plan) {
	row(w, "migration", p.ID)
	row(w, "memory", p.Memory)
	row(w, "status", p.Status)
	if p.Reason != "" {
		row(w, "reason", p.Reason)
	}
	if p.Undoes != "" {
		row(w, "undoes", p.Undoes)
	}
	if p.UndoneBy != "" {
		row(w, "undone by", p.UndoneBy)
	}
	row(w, "strategy", fmt.Sprintf("%s, %s", p.Strategy, resilience.Pace{Rate: p.Policy.Rate, BatchSize: p.Policy.BatchSize}))
	chunks := fmt.Sprintf("%d planned, %d moved, %d drifted, %d vanished", p.Moves, p.Moved, p.Drifted, p.Vanished)
	if p.Disagree > 0 {
		chunks += fmt.Sprintf(", %d left out since their paths disagree", p.Disagree)
	}
	row(w, "chunks", chunks)
	row(w, "text", size(p.Bytes))
	row(w, "took", fmt.Sprintf("%s, of it planning %s and moving %s", took(p.DurationMS), took(p.PlanningMS), took(p.ApplyMS)))
	row(w, "workflow", p.WorkflowID)
}
