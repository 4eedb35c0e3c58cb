-- What stood in the columns of a copy that the transfer does not fill when it was made: a
-- print of each, in the order of fit.beside. NULL: there are none, nobody can tell, or it
-- was made before this version.
ALTER TABLE rehome.migration_copies ADD COLUMN beside bigint[];

-- Its files take the places of others, where an index takes no two chunks at one: rows
-- have to move in the order of the journal. That does no harm to any other.
ALTER TABLE rehome.migration_plans ADD COLUMN chained boolean NOT NULL DEFAULT false;
UPDATE rehome.migration_plans SET chained = true WHERE status NOT IN ('completed', 'rolled_back', 'cancelled');
