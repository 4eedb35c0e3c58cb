package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rehome/activities"
	"rehome/corpus"
	"rehome/resilience"
)

// cleanPath makes the canonical key of a path a person typed.
func cleanPath(typed string) (string, error) {
	key, err := corpus.Clean(typed)
	if err != nil {
		return "", fail(exitUsage, "%w", err)
	}
	return key, nil
}

// newID makes an id that sorts by time and can be read out: m-20261124-1532-x7k2.
func newID(prefix string) string {
	return fmt.Sprintf("%s-%s-%s", prefix, time.Now().UTC().Format("20060102-1504"), strings.ToLower(rand.Text()[:4]))
}

// author is who the audit names.
func author() string {
	who, err := user.Current()
	if err != nil {
		return ""
	}
	return who.Username
}

func (s *session) origin() activities.Origin {
	return activities.Origin{Installation: s.site.installation}
}

// theMemory is the memory that --memory names.
func (s *session) theMemory(ctx context.Context) (resilience.Memory, error) {
	if err := resilience.CheckMemoryName(s.memory); err != nil {
		return resilience.Memory{}, fail(exitUsage, "%w", err)
	}
	data, err := s.store(ctx)
	if err != nil {
		return resilience.Memory{}, err
	}
	return data.Memory(ctx, s.memory)
}

func detachFlag(c *cobra.Command, detach *bool) {
	c.Flags().BoolVar(detach, "detach", false, "return as soon as the workflow runs")
}

func limitFlag(c *cobra.Command, limit *int) {
	*limit = 50
	c.Flags().Var((*positive)(limit), "limit", "how many to list at most")
}

// positive is a flag that takes 1 and more.
type positive int

func (p *positive) String() string { return strconv.Itoa(int(*p)) }
func (p *positive) Type() string   { return "int" }

func (p *positive) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return fmt.Errorf("want a whole number of 1 and more")
	}
	*p = positive(n)
	return nil
}

// storable reports whether Postgres can keep a text.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }
