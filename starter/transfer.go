package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rehome/resilience"
)

// transferFlags are those by which chunks go to another memory.
type transferFlags struct {
	to     string
	prefix string
	soak   time.Duration
}

func (f *transferFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.to, "to-memory", "", "take the chunks to this memory")
	flags.StringVar(&f.prefix, "prefix", "", "with --to-memory: only chunks at or under this path")
	flags.DurationVar(&f.soak, "soak", resilience.DefaultSoak, "with --to-memory: how long the source rows stay after the switch; 0 is not at all")
	c.MarkFlagsMutuallyExclusive("rename", "to-memory")
	c.MarkFlagsMutuallyExclusive("moves", "to-memory")
	c.Use += " | --to-memory NAME [--prefix PATH]"
	c.Long += `

--to-memory takes chunks to another memory, whatever its table looks like:
columns are matched by meaning, what has no column goes into the metadata, and
what does not fit is refused by name before a row moves. The chunks are copied
and compared, references switch to the copies, and after the soak the source
rows go to quarantine; those that changed meanwhile are copied again first.`
	c.Example += `
  starter migrate --to-memory archive --prefix guide/2019
  starter migrate --memory notes --to-memory docs --soak 24h --detach`
}

// order is what the flags ask for; nothing when chunks stay in their memory.
func (f *transferFlags) order(ctx context.Context, s *session, memory string, way resilience.Way) (resilience.TransferOrder, error) {
	var order resilience.TransferOrder
	if f.to == "" {
		if f.prefix != "" {
			return order, fail(exitUsage, "--prefix says which chunks go to another memory; name it with --to-memory, or move files inside one with --rename")
		}
		return order, nil
	}
	soak := resilience.Seconds(f.soak.Seconds())
	order.To, order.Soak = f.to, &soak
	if f.prefix != "" {
		prefix, err := cleanPath(f.prefix)
		if err != nil {
			return order, err
		}
		order.Prefix = prefix
	}
	if err := order.Check(memory, way); err != nil {
		return order, fail(exitUsage, "%w", err)
	}
	_, err := s.data.Memory(ctx, f.to)
	return order, err
}

// describe says in the web UI what a transfer is about.
func (f *transferFlags) describe(t *task) {
	if f.to == "" {
		return
	}
	what := "all chunks"
	if f.prefix != "" {
		what = "chunks under " + f.prefix
	}
	t.summary = fmt.Sprintf("Take %s of %s to memory %s", what, t.memory, f.to)
	t.details = fmt.Sprintf("%s. The source rows stay for %s after the switch.", t.summary, f.soak)
}
