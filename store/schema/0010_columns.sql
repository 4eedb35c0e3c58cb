-- How the prints of a transfer's copies are made: by sha256 of the row, by a hash of the row
-- as it is sent, or by hashes of its columns. A transfer stays with what it began with.
ALTER TABLE rehome.migration_transfers ADD COLUMN prints text;
UPDATE rehome.migration_transfers SET prints = CASE WHEN hash64 THEN 'row' ELSE 'sha256' END;
ALTER TABLE rehome.migration_transfers ALTER COLUMN prints SET NOT NULL, DROP COLUMN hash64;
