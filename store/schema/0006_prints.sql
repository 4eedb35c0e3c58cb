-- The copies of a transfer are told from what was made of them since by a hash of 8
-- bytes. Those of transfers that were there before keep their sha256, of 32.
ALTER TABLE rehome.migration_transfers ADD COLUMN hash64 boolean NOT NULL DEFAULT false;
