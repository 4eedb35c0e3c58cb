-- Files that change places where a unique index takes no two chunks at one place. Some
-- step aside for the others; from the first to the last of such a circle (a knot) all move in one transaction.
ALTER TABLE rehome.migration_paths ADD COLUMN aside boolean NOT NULL DEFAULT false;

-- The rows that step aside, by their ordinals, and those after which no batch may end.
ALTER TABLE rehome.migration_plans
    ADD COLUMN aside int8multirange NOT NULL DEFAULT '{}',
    ADD COLUMN knots int8multirange NOT NULL DEFAULT '{}';

-- When its journal was written; NULL: it has none, or was planned before this version.
ALTER TABLE rehome.migration_plans ADD COLUMN journalled_at timestamptz;
