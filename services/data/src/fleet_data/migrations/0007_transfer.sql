-- Exports and imports: the row is the truth about a job; its files lie in the service's folder.

CREATE TABLE store.export_jobs (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    subject     text NOT NULL, -- whose job it is: nobody else of the tenant sees it or gets its file
    call_key    text,          -- names the call, so that a repeated one finds its job
    digest      text NOT NULL, -- of the request, which a repeated call must share
    request     jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'expired')),
    attempts    integer NOT NULL DEFAULT 0,
    worker      text,          -- who runs it, for as long as the lease is renewed
    lease_until timestamptz,
    rows        bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    file        text,
    sha256      text,
    result      jsonb,
    error_code  text,
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, subject, call_key),
    -- Done means that there is something to show, and nothing else may be shown.
    CHECK ((state = 'done') <= (finished_at IS NOT NULL))
);

CREATE TABLE store.import_jobs (LIKE store.export_jobs INCLUDING ALL);
ALTER TABLE store.import_jobs ADD FOREIGN KEY (tenant) REFERENCES store.tenants;

-- Files on their way in. How much has arrived is the length of the file itself.
CREATE TABLE store.uploads (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    subject    text NOT NULL,
    sha256     text, -- set when the file is whole
    bytes      bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['export_jobs', 'import_jobs', 'uploads'] LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
            -- For store.due_transfers() alone: no view shows these tables.
            CREATE POLICY of_sweeper ON store.%1$I FOR SELECT TO crm_migrator USING (true);
        $sql$, tab);
    END LOOP;
    FOREACH tab IN ARRAY ARRAY['export_jobs', 'import_jobs'] LOOP
        EXECUTE format($sql$
            CREATE INDEX ON store.%1$I (created_at) WHERE state IN ('queued', 'running');
            CREATE INDEX ON store.%1$I (expires_at) WHERE state <> 'expired';
        $sql$, tab);
    END LOOP;
END
$$;

-- What waits for a worker, lost its worker, or is past its time, of every tenant. It names jobs and shows nothing
-- of them; whoever runs one signs a claim for its tenant first.
CREATE FUNCTION store.due_transfers()
RETURNS TABLE (kind text, action text, tenant text, id uuid, subject text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT 'export', 'run', j.tenant, j.id, j.subject FROM store.export_jobs j
     WHERE j.state = 'queued' OR (j.state = 'running' AND j.lease_until < now())
     ORDER BY j.created_at LIMIT 50)
    UNION ALL
    (SELECT 'import', 'run', j.tenant, j.id, j.subject FROM store.import_jobs j
     WHERE j.state = 'queued' OR (j.state = 'running' AND j.lease_until < now())
     ORDER BY j.created_at LIMIT 50)
    UNION ALL
    (SELECT 'export', 'expire', j.tenant, j.id, j.subject FROM store.export_jobs j
     WHERE j.expires_at < now() AND j.state NOT IN ('queued', 'running', 'expired') LIMIT 50)
    UNION ALL
    (SELECT 'import', 'expire', j.tenant, j.id, j.subject FROM store.import_jobs j
     WHERE j.expires_at < now() AND j.state NOT IN ('queued', 'running', 'expired') LIMIT 50)
    UNION ALL
    (SELECT 'upload', 'expire', u.tenant, u.id, u.subject FROM store.uploads u WHERE u.expires_at < now() LIMIT 50)
$$;
REVOKE ALL ON FUNCTION store.due_transfers() FROM PUBLIC;

GRANT EXECUTE ON FUNCTION store.due_transfers() TO crm_writer;
GRANT SELECT, INSERT, UPDATE ON store.export_jobs, store.import_jobs TO crm_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON store.uploads TO crm_writer;
