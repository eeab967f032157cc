-- The table of the audit sink `postgres`. Run it as its owner, once:  fleet audit schema | psql "$OWNER_DSN"
-- The role fleet_audit_writer may insert and nothing else: not read, not change, not delete. Grant it to the login that
-- FLEET_<SERVICE>_AUDIT_DATABASE_URL names.
CREATE TABLE IF NOT EXISTS fleet_audit (
    chain text NOT NULL,
    seq bigint NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    record text NOT NULL,
    PRIMARY KEY (chain, seq)
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleet_audit_writer') THEN
        CREATE ROLE fleet_audit_writer NOLOGIN;
    END IF;
END
$$;
REVOKE ALL ON fleet_audit FROM PUBLIC;
GRANT INSERT ON fleet_audit TO fleet_audit_writer;
