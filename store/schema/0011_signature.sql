-- The columns that a transfer depends on, with their types, as they were when it was
-- planned. NULL: it was planned before this version, and is not compared with its tables.
ALTER TABLE rehome.migration_transfers ADD COLUMN signature jsonb;
