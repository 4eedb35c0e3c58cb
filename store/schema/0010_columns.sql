-- How the prints of a transfer's copies are made, where that is not what hash64 says; it is
-- NULL then, so that a worker of an earlier version does not take up what it cannot do.
ALTER TABLE rehome.migration_transfers ADD COLUMN prints text;
ALTER TABLE rehome.migration_transfers ALTER COLUMN hash64 DROP NOT NULL;
