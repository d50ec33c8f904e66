#!/bin/sh
# Prepares an empty PostgreSQL for the news site: a role that owns its database
# and may do nothing else. The image's superuser is left without a password, so
# it is reached from inside the container alone.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
\set password `cat /run/secrets/postgres_password`
CREATE ROLE news LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
CREATE DATABASE news OWNER news ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
REVOKE ALL ON DATABASE news, postgres, template1 FROM PUBLIC;
ALTER ROLE postgres PASSWORD NULL;
SQL
