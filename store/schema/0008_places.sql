-- Files that change places where a unique index takes no two chunks at one place. Some
-- step aside for the others; all rows of such a circle (a knot) move in one transaction.
ALTER TABLE rehome.migration_paths ADD COLUMN aside boolean NOT NULL DEFAULT false;

-- Ordinals of the rows that step aside, and those of the knots.
ALTER TABLE rehome.migration_plans
    ADD COLUMN aside int8multirange NOT NULL DEFAULT '{}',
    ADD COLUMN knots int8multirange NOT NULL DEFAULT '{}';
