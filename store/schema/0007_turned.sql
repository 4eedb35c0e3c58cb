-- How far a plan had come when it was turned round: these rows go back, and those of a
-- rename are looked at before it is closed. NULL: it goes its way, or was turned before
-- this version.
ALTER TABLE rehome.migration_progress ADD COLUMN turned bigint;
