-- A throttle's rate and its size of batches are ordered, and end, each by itself:
-- throttle_until is of the rate.
ALTER TABLE rehome.migration_progress ADD COLUMN throttle_batch_until timestamptz;  -- NULL: there is none
UPDATE rehome.migration_progress SET throttle_batch_until = throttle_until WHERE throttle_batch IS NOT NULL;
