-- Marketing workflows: what to do, step by step, with each contact to whom something happened.

CREATE TABLE store.workflows (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    name       text NOT NULL,
    definition jsonb NOT NULL,
    state      text NOT NULL DEFAULT 'off' CHECK (state IN ('off', 'on')),
    started_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX workflows_name ON store.workflows (tenant, name) WHERE deleted_at IS NULL;

-- How far each workflow has read the change log.
CREATE TABLE store.workflow_cursors (
    tenant      text NOT NULL,
    workflow_id uuid NOT NULL,
    change_id   bigint NOT NULL,
    PRIMARY KEY (tenant, workflow_id),
    FOREIGN KEY (tenant, workflow_id) REFERENCES store.workflows
);

-- One contact on its way through a workflow, once, by the steps that held when it began.
CREATE TABLE store.workflow_runs (
    tenant      text NOT NULL,
    id          uuid NOT NULL,
    workflow_id uuid NOT NULL,
    contact_id  uuid NOT NULL,
    record_id   uuid NOT NULL, -- what it happened to: the contact, or a deal of theirs
    steps       jsonb NOT NULL,
    step        integer NOT NULL DEFAULT 0,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'left', 'failed')),
    due_at      timestamptz NOT NULL DEFAULT now(),
    reason      text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, workflow_id, contact_id),
    FOREIGN KEY (tenant, workflow_id) REFERENCES store.workflows,
    FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts
);
CREATE INDEX workflow_runs_due ON store.workflow_runs (tenant, workflow_id, due_at) WHERE state = 'open';

CREATE TRIGGER touch BEFORE UPDATE ON store.workflows FOR EACH ROW EXECUTE FUNCTION store.touch();
CREATE TRIGGER log_inserts AFTER INSERT ON store.workflows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION store.log_inserts('workflow');
CREATE TRIGGER log_updates AFTER UPDATE ON store.workflows
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION store.log_updates('workflow');

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['workflows', 'workflow_cursors', 'workflow_runs'] LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
            GRANT SELECT, INSERT, UPDATE ON store.%1$I TO crm_writer;
        $sql$, tab);
    END LOOP;
END
$$;
