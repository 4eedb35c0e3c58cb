-- refuse_batch fails the transaction of a batch whose rows are not what was planned,
-- where batches follow each other and nobody looks at the account before it commits.
CREATE FUNCTION rehome.refuse_batch() RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'rows of the batch are not where they were to go, or not what they were' USING ERRCODE = 'RH001';
END $$;
