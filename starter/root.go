package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
)

const about = `rehome keeps the chunks of an AI memory at home with their files: it finds the
chunks whose source was renamed, moved or deleted, lets them follow, and cleans
up what is left, as durable workflows on Temporal and Postgres.

Postgres is found by DATABASE_URL or PG*, Temporal by TEMPORAL_* or a profile of
its configuration file; what these do not name is that of the stack which
"worker -dev" runs for this checkout. TEMPORAL_UI_URL is the address of the Temporal web UI.`

// exitStatus ends the help of every command.
const exitStatus = `
EXIT STATUS
    0  done
    1  failed
    2  usage: a flag, an argument or a path that cannot be right
    3  refused: a safety rule, missing rights, a schema of another version
    4  not found
    5  conflict, or already running
    6  Postgres or Temporal not reachable, or no worker running
  130  interrupted; a workflow that was started goes on
`

func newRoot(s *session, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "starter",
		Short:         "Keep the chunks of an AI memory at home with their files",
		Long:          about,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetUsageTemplate(root.UsageTemplate() + exitStatus)
	flags := root.PersistentFlags()
	flags.BoolVar(&s.json, "json", false, "give the result, and errors, as JSON")
	flags.StringVar(&s.memory, "memory", resilience.DefaultMemory, "the memory to work on")
	flags.StringVar(&s.profile, "profile", "", "profile of Temporal's configuration file")
	root.AddCommand(commands(s)...)
	return root
}

// commands is the one list of commands.
func commands(s *session) []*cobra.Command {
	return []*cobra.Command{
		memoryCommand(s), ingestCommand(s), scanCommand(s), orphansCommand(s), cleanupCommand(s), quarantineCommand(s),
		migrateCommand(s), migrationCommand(s), aliasCommand(s), resolveCommand(s), statusCommand(s), demoCommand(s),
	}
}

// noun groups verbs. By itself it does nothing but say which there are.
func noun(s *session, use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	names := make([]string, len(verbs))
	for i, v := range verbs {
		names[i] = v.Name()
	}
	c.RunE = s.do(func(_ context.Context, args []string) error {
		return fail(exitUsage, "%s %s: want one of the verbs %s", c.CommandPath(), strings.Join(args, " "), strings.Join(names, ", "))
	})
	c.Example = fmt.Sprintf("  starter %s %s --help", use, names[0])
	c.AddCommand(verbs...)
	return c
}

// do marks where a command's own work begins: errors before it are usage.
func (s *session) do(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s.running = true
		return work(c.Context(), args)
	}
}

// exactly wants the n arguments that the usage line names after the verb.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		wanted := strings.Join(strings.Fields(c.Use)[1:n+1], " ")
		return fmt.Errorf("%s: want %s, got %s", c.CommandPath(), wanted, count(len(args), "argument"))
	}
}
