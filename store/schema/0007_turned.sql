-- How far a plan had come when it was turned round: these rows went back, and each is
-- looked at before the plan is closed. NULL: it goes its way, or was turned before
-- this version.
ALTER TABLE rehome.migration_progress ADD COLUMN turned bigint;
