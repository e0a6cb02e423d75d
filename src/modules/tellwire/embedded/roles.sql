-- Tellwire's roles and what each may do with one database. Idempotent: run it as often as you like.
--
-- The embedded server runs this by itself. On a server of your own, as a superuser:
--
--     createdb tellwire
--     psql -d tellwire -v ON_ERROR_STOP=1 -f roles.sql
--     psql -d tellwire -c '\password tellwire_app'        -- and so on for each of the five roles
--
-- Then set TELLWIRE_DATABASE_URL with the role tellwire_app; Tellwire puts the other roles' names
-- into the same URL unless TELLWIRE_DATABASE_OWNER_URL and its like say otherwise.
--
--     tellwire_owner     owns the database and its schema; used by migrations alone
--     tellwire_app       a tenant's rows, under that tenant's context
--     tellwire_dispatch  the columns of the send queue
--     tellwire_intake    inserts into the webhook inbox
--     tellwire_process   works through the webhook inbox
--
-- No role is a superuser, may bypass row-level security, replicate, or become another one of them.
-- Rights on tables are given by the migrations. Roles belong to the whole server, rights to the
-- database you are connected to: run it in each database that Tellwire uses.

DO $roles$
DECLARE
    wanted text;
    membership record;
    tellwire constant text[] := ARRAY[
        'tellwire_owner', 'tellwire_app', 'tellwire_dispatch', 'tellwire_intake', 'tellwire_process'
    ];
BEGIN
    FOREACH wanted IN ARRAY tellwire LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        END IF;
        -- Only where something is wrong, since changing these attributes needs a superuser.
        IF EXISTS (
            SELECT FROM pg_catalog.pg_roles
            WHERE rolname = wanted
              AND (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication
                   OR NOT rolcanlogin)
        ) THEN
            EXECUTE format(
                'ALTER ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION',
                wanted
            );
        END IF;
    END LOOP;

    FOR membership IN
        SELECT parent.rolname AS parent, child.rolname AS child
        FROM pg_catalog.pg_auth_members
        JOIN pg_catalog.pg_roles AS parent ON parent.oid = roleid
        JOIN pg_catalog.pg_roles AS child ON child.oid = member
        WHERE parent.rolname = ANY (tellwire) AND child.rolname = ANY (tellwire)
    LOOP
        EXECUTE format('REVOKE %I FROM %I', membership.parent, membership.child);
    END LOOP;

    -- PUBLIC may connect to and make temporary tables in every new database; ours names who may.
    EXECUTE format('ALTER DATABASE %I OWNER TO tellwire_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());

    -- A plan that was made while a table was empty reads it as a whole, and is kept for a minute
    -- after it has grown: claims among 6,000 entries took 77 ms each. An index is never far off.
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_db_role_setting
        JOIN pg_catalog.pg_database ON pg_database.oid = setdatabase
        WHERE setrole = 0 AND datname = current_database()
          AND 'enable_seqscan=off' = ANY (setconfig)
    ) THEN
        EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
    END IF;

    FOREACH wanted IN ARRAY tellwire[2:] LOOP
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM %I', current_database(), wanted);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted);

        -- A process that is stopped in a transaction keeps its locks, and everybody of the tenant
        -- waits. Between preparing a statement and running it no other time-out ends that.
        IF current_setting('server_version_num')::int >= 170000 AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting
            JOIN pg_catalog.pg_database ON pg_database.oid = setdatabase
            JOIN pg_catalog.pg_roles ON pg_roles.oid = setrole
            CROSS JOIN unnest(setconfig) AS configured
            WHERE datname = current_database() AND rolname = wanted
              AND starts_with(configured, 'transaction_timeout=')
        ) THEN
            EXECUTE format(
                'ALTER ROLE %I IN DATABASE %I SET transaction_timeout = ''60s''',
                wanted, current_database()
            );
        END IF;
    END LOOP;
END
$roles$;

ALTER SCHEMA public OWNER TO tellwire_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public
    FROM tellwire_app, tellwire_dispatch, tellwire_intake, tellwire_process;
GRANT USAGE ON SCHEMA public
    TO tellwire_app, tellwire_dispatch, tellwire_intake, tellwire_process;
