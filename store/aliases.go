package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// AddAlias says that what was at original is now at current; both are canonical
// paths, of a file or a directory. Aliases that led to original, or below it,
// lead on to current. An alias at current ends, since something is there now.
// It is refused where a file lives at original: such a path resolves to itself.
func (s *Store) AddAlias(ctx context.Context, memory, original, current string, meta map[string]string) (resilience.Alias, error) {
	if err := resilience.CheckAlias(original, current); err != nil {
		return resilience.Alias{}, problem(ErrInvalid, "%v", err)
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := lockMemory(ctx, tx, memory); err != nil {
			return err
		}
		if err := aliasable(ctx, tx, memory, original, current); err != nil {
			return err
		}
		settings, err := readSettings(ctx, tx)
		if err != nil {
			return err
		}
		// One writer per memory: no other alias is being added under this name.
		args := pgx.NamedArgs{
			"plan": "alias of " + memory, "by": "", "memory": memory, "moves": false, "keep": settings.MaxVersionHistory,
			"old": original, "new": current, "meta": meta,
		}
		const describe = `
			UPDATE rehome.version_aliases SET metadata = metadata || coalesce(@meta::jsonb, '{}')
			WHERE memory = @memory AND original_path = @old`
		return execAll(ctx, tx, args, fmt.Sprintf(planAliases, ruleGiven), dropAliases, putAliases, forgetAliases, describe)
	})
	if err != nil {
		return resilience.Alias{}, fmt.Errorf("add alias %s: %w", original, err)
	}
	return s.Alias(ctx, memory, original)
}

// aliasable refuses paths that are not canonical, and one at which a file lives.
func aliasable(ctx context.Context, tx pgx.Tx, memory, original, current string) error {
	for _, path := range []string{original, current} {
		var canonical bool
		err := tx.QueryRow(ctx, `SELECT coalesce(rehome.path_key($1, '') = $1, false)`, path).Scan(&canonical)
		if err != nil {
			return err
		}
		if !canonical {
			return problem(ErrInvalid, "path %q: want it relative to the memory's root, without . and .. and empty parts, in Unicode form NFC", path)
		}
	}
	var lives bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM rehome.files WHERE memory = $1 AND path = $2 AND gone_at IS NULL)`, memory, original).Scan(&lives)
	if err != nil {
		return err
	}
	if lives {
		return problem(ErrConflict, "a file lives at %s, so that path means that file; move it first and scan, or use `starter migrate --rename %s=%s`", original, original, current)
	}
	return nil
}

// selectAliases reads resilience.Alias by position.
const selectAliases = `
	SELECT original_path, current_path, version_history, access_count, last_accessed_at, metadata,
		coalesce(plan_id, ''), created_at, updated_at, expires_at
	FROM rehome.version_aliases WHERE memory = $1`

// Alias returns the alias of exactly this path, or ErrNotFound.
func (s *Store) Alias(ctx context.Context, memory, original string) (resilience.Alias, error) {
	rows, err := s.pool.Query(ctx, selectAliases+` AND original_path = $2`, memory, original)
	if err != nil {
		return resilience.Alias{}, fmt.Errorf("read alias %s: %w", original, interpret(err))
	}
	alias, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[resilience.Alias])
	if errors.Is(err, pgx.ErrNoRows) {
		return resilience.Alias{}, s.noAlias(ctx, memory, original)
	}
	if err != nil {
		return resilience.Alias{}, fmt.Errorf("read alias %s: %w", original, interpret(err))
	}
	return alias, nil
}

func (s *Store) noAlias(ctx context.Context, memory, original string) error {
	if _, err := s.Memory(ctx, memory); err != nil {
		return err
	}
	return problem(ErrNotFound, "memory %s has no alias for %s; see `starter alias list`", memory, original)
}

// Aliases lists the first aliases of a memory by their original path.
func (s *Store) Aliases(ctx context.Context, memory string, limit int) ([]resilience.Alias, error) {
	if _, err := s.Memory(ctx, memory); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, selectAliases+` ORDER BY original_path LIMIT $2`, memory, limit)
	if err != nil {
		return nil, fmt.Errorf("list the aliases of %s: %w", memory, interpret(err))
	}
	aliases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Alias])
	if err != nil {
		return nil, fmt.Errorf("list the aliases of %s: %w", memory, interpret(err))
	}
	return aliases, nil
}

// RemoveAlias forgets the alias of exactly this path, or returns ErrNotFound.
func (s *Store) RemoveAlias(ctx context.Context, memory, original string) error {
	tag, err := s.pool.Exec(ctx, `DELETE FROM rehome.version_aliases WHERE memory = $1 AND original_path = $2`, memory, original)
	if err != nil {
		return fmt.Errorf("remove alias %s: %w", original, interpret(err))
	}
	if tag.RowsAffected() == 0 {
		return s.noAlias(ctx, memory, original)
	}
	return nil
}

// Resolve says where the file of a path is now and counts the access. The path
// may be relative to the root or in the form in which the memory keeps paths.
func (s *Store) Resolve(ctx context.Context, memory, path string) (resilience.Resolution, error) {
	if _, err := s.Memory(ctx, memory); err != nil {
		return resilience.Resolution{}, err
	}
	// The history of a directory's alias is told as that of the path below it.
	const history = `
		SELECT l.lead || (v->>'path') || l.rest, (v->>'at')::timestamptz
		FROM rehome.locate($1, $2, rehome.strip_prefix($1)) l
		JOIN rehome.version_aliases a ON a.memory = $1 AND a.original_path = l.original
		CROSS JOIN LATERAL jsonb_array_elements(a.version_history) WITH ORDINALITY AS e (v, n)
		ORDER BY n`
	rows, err := s.pool.Query(ctx, history, memory, path)
	if err != nil {
		return resilience.Resolution{}, fmt.Errorf("resolve %s: %w", path, interpret(err))
	}
	answer := resilience.Resolution{Path: path}
	if answer.History, err = pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Version]); err != nil {
		return resilience.Resolution{}, fmt.Errorf("resolve %s: %w", path, interpret(err))
	}
	if err := s.pool.QueryRow(ctx, `SELECT rehome.resolve($1, $2)`, memory, path).Scan(&answer.CurrentPath); err != nil {
		return resilience.Resolution{}, fmt.Errorf("resolve %s: %w", path, interpret(err))
	}
	answer.Aliased = answer.CurrentPath != path
	return answer, nil
}
