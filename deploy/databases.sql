-- Roles and databases, run by psql on every `docker compose up` and so safe to
-- repeat. Temporal and rehome share one server, but each has its own role and
-- can connect only to its own databases. A changed password takes effect here.
\set ON_ERROR_STOP on
\getenv temporal_password TEMPORAL_DB_PASSWORD
\getenv rehome_password REHOME_DB_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', role)
FROM (VALUES ('temporal'), ('rehome')) AS wanted (role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

ALTER ROLE temporal PASSWORD :'temporal_password';
ALTER ROLE rehome PASSWORD :'rehome_password';

-- CREATE DATABASE knows no IF NOT EXISTS and no transaction.
SELECT format('CREATE DATABASE %I OWNER %I', db, role)
FROM (VALUES ('temporal', 'temporal'), ('temporal_visibility', 'temporal'), ('rehome', 'rehome')) AS wanted (db, role)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = db)
\gexec

REVOKE CONNECT ON DATABASE temporal, temporal_visibility, rehome FROM PUBLIC;

-- The application's embeddings may need the type vector, which only a superuser
-- can install. rehome itself works without, on a server that does not have it.
\connect rehome
SELECT 'CREATE EXTENSION IF NOT EXISTS vector'
FROM pg_available_extensions WHERE name = 'vector'
\gexec
