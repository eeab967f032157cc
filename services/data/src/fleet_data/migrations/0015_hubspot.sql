-- Syncing with other systems: which record is which, how far a sync is, and what somebody should look at.

-- What a record of ours is called elsewhere, and the values both sides had when they last met.
CREATE TABLE store.external_refs (
    tenant      text NOT NULL REFERENCES store.tenants,
    source      text NOT NULL,
    object      text NOT NULL,
    external_id text NOT NULL,
    record_id   uuid NOT NULL,
    base        jsonb NOT NULL,
    version     integer NOT NULL, -- of the record when nothing was left to tell; 0 while something is
    modified_ms bigint NOT NULL,  -- when the other side last changed, by its clock: what is older is stale
    state       text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'gone_here', 'gone_there')),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, source, object, external_id),
    UNIQUE (tenant, source, object, record_id)
);

-- How far both sides were looked through. A row is also the lock under which records of an object are matched.
CREATE TABLE store.sync_cursors (
    tenant    text NOT NULL REFERENCES store.tenants,
    source    text NOT NULL,
    object    text NOT NULL,
    pulled_ms bigint NOT NULL DEFAULT 0,
    pushed_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant, source, object)
);

CREATE TABLE store.sync_runs (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    source      text NOT NULL,
    request     jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'done', 'failed', 'cancelled')),
    position    jsonb NOT NULL,
    counts      jsonb NOT NULL DEFAULT '{}',
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX sync_runs_one_at_a_time ON store.sync_runs (tenant, source) WHERE state = 'queued';

-- The conflict report: a row per record and matter; seen again, it is counted and not repeated.
CREATE TABLE store.sync_issues (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    source      text NOT NULL,
    object      text NOT NULL,
    kind        text NOT NULL
        CHECK (kind IN ('conflict', 'refused', 'unmapped', 'duplicate', 'deleted_here', 'deleted_there')),
    external_id text,
    record_id   uuid,
    fields      jsonb NOT NULL DEFAULT '{}', -- of a conflict, by field: what it was, and what either side made of it
    winner      text CHECK (winner IN ('hubspot', 'crm')),
    message     text NOT NULL,
    times       integer NOT NULL DEFAULT 1,
    first_at    timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz NOT NULL DEFAULT now(),
    digest      text GENERATED ALWAYS AS (md5(fields::text || message)) STORED, -- tells matters apart, secures nothing
    PRIMARY KEY (tenant, id),
    UNIQUE NULLS NOT DISTINCT (tenant, source, object, kind, external_id, record_id, digest)
);

-- Records that a webhook named: they are read anew, whatever it said of them.
CREATE TABLE store.sync_inbox (
    tenant      text NOT NULL REFERENCES store.tenants,
    source      text NOT NULL,
    object      text NOT NULL,
    external_id text NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, source, object, external_id)
);

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['external_refs', 'sync_cursors', 'sync_runs', 'sync_issues', 'sync_inbox'] LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
            GRANT SELECT, INSERT, UPDATE ON store.%1$I TO crm_writer;
        $sql$, tab);
    END LOOP;
END
$$;
GRANT DELETE ON store.sync_inbox TO crm_writer;

ALTER TABLE store.jobs DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('campaign', 'workflow', 'sync', 'sync_inbox'));

CREATE VIEW crm.external_refs AS
    SELECT source, object, external_id, record_id, state, updated_at FROM store.external_refs;
COMMENT ON VIEW crm.external_refs IS 'What records are called in other systems, such as HubSpot.';

CREATE VIEW crm.sync_issues AS
    SELECT id, source, object, kind, external_id, record_id, fields, winner, message, times, first_at, last_at
    FROM store.sync_issues;
COMMENT ON VIEW crm.sync_issues IS 'Conflicts, and what could not be synced, newest last by last_at.';

GRANT SELECT ON crm.external_refs, crm.sync_issues TO crm_reader;
