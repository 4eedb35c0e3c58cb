package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"

	"rehome/resilience"
)

// openMoves opens the list that --moves names.
func (s *session) openMoves(name string) (*moveReader, io.Closer, error) {
	if name == "-" {
		return newMoveReader("standard input", s.in), io.NopCloser(nil), nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, fail(exitUsage, "--moves: %w", err)
	}
	if about, err := file.Stat(); err == nil && about.IsDir() {
		_ = file.Close()
		return nil, nil, fail(exitUsage, "--moves %s: is a directory; want a file of CSV or JSON lines, or - for standard input", name)
	}
	return newMoveReader(name, file), file, nil
}

// stageMoves puts the list that --moves names where the plan will find it. When
// a line is bad it says which, and keeps nothing.
func (s *session) stageMoves(ctx context.Context, name, plan string) (*moveReader, error) {
	list, file, err := s.openMoves(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	err = s.data.StageRenames(ctx, plan, list.next, &list.bad)
	switch {
	case list.err != nil:
		return nil, list.err
	case err != nil:
		return nil, err
	case list.bad.Total > 0:
		return nil, s.badMoves(list)
	case list.moves == 0:
		return nil, fail(exitUsage, "%s has no moves; want lines of source,target or {\"source\": …, \"target\": …}", list.name)
	}
	return list, nil
}

// migrateMoves runs a migration whose renames wait for it in Postgres.
func (s *session) migrateMoves(ctx context.Context, t task, order migrateOrder) error {
	if _, err := s.temporal(ctx); err != nil { // before a million lines are read for nothing
		return err
	}
	if err := s.checkWorkers(ctx, t.files); err != nil {
		return err
	}
	list, err := s.stageMoves(ctx, order.moves, t.migration)
	if err != nil {
		return err
	}
	t.describe(list.first, list.moves)
	return s.performPlan(ctx, t, order)
}

// badMoves tells of the bad lines of a list.
func (s *session) badMoves(list *moveReader) error {
	bad := list.bad
	slices.SortStableFunc(bad.First, func(a, b resilience.BadLine) int { return cmp.Compare(a.Line, b.Line) })
	for _, line := range bad.First {
		s.say("%s: %s", list.name, line)
	}
	if more := bad.Total - int64(len(bad.First)); more > 0 {
		s.say("%s: and %d more, on lines %s", list.name, more, bad.Rest())
	}
	return fail(exitUsage, "%s has %s, see above; nothing was started; correct the list and try again", list.name, count(int(bad.Total), "bad line"))
}
