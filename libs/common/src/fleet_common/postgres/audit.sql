-- The table of the audit sink `postgres`. Run it as its owner, once:  fleet audit schema | psql "$OWNER_DSN"
-- The role fleet_audit_writer may insert and nothing else: not read, not change, not delete. Grant it to the login that
-- FLEET_<SERVICE>_AUDIT_DATABASE_URL names. The role fleet_audit_reader sees the records of one tenant at a time; grant it
-- to another login, which FLEET_<SERVICE>_AUDIT_READER_URL names, for `fleet_audit_search`.
CREATE TABLE IF NOT EXISTS fleet_audit (
    chain text NOT NULL,
    seq bigint NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    record text NOT NULL,
    PRIMARY KEY (chain, seq)
);
ALTER TABLE fleet_audit ADD COLUMN IF NOT EXISTS service text, ADD COLUMN IF NOT EXISTS tenant text;
CREATE INDEX IF NOT EXISTS fleet_audit_of_tenant ON fleet_audit (tenant, written DESC);
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['fleet_audit_writer', 'fleet_audit_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON fleet_audit FROM PUBLIC;
GRANT INSERT ON fleet_audit TO fleet_audit_writer;
GRANT SELECT ON fleet_audit TO fleet_audit_reader;
ALTER TABLE fleet_audit ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS written_by_services ON fleet_audit;
CREATE POLICY written_by_services ON fleet_audit FOR INSERT TO fleet_audit_writer WITH CHECK (true);
DROP POLICY IF EXISTS read_by_one_tenant ON fleet_audit;
CREATE POLICY read_by_one_tenant ON fleet_audit FOR SELECT TO fleet_audit_reader
    USING (tenant = current_setting('fleet.tenant', true));
