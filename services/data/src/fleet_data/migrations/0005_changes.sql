-- Typed links, custom properties, change sets and the outbox.

-- An edge between two records of any kind, such as contact –decision_maker→ deal.
CREATE TABLE store.links (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    from_object text NOT NULL,
    from_id     uuid NOT NULL,
    type        text NOT NULL CHECK (type ~ '^[a-z][a-z0-9_]{0,39}$'),
    to_object   text NOT NULL,
    to_id       uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX links_type ON store.links (tenant, from_id, type, to_id) WHERE deleted_at IS NULL;
CREATE INDEX links_by_target ON store.links (tenant, to_id) WHERE deleted_at IS NULL;

-- Fields that a tenant adds to an object. Their values are in `props` of the record, under the same name; the
-- prefix keeps them apart from every field that the CRM has or will have.
CREATE TABLE store.properties (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    object     text NOT NULL,
    name       text NOT NULL CHECK (name ~ '^x_[a-z0-9_]{1,40}$'),
    kind       text NOT NULL,
    about      text,
    choices    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX properties_name ON store.properties (tenant, object, name) WHERE deleted_at IS NULL;

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['companies', 'contacts', 'leads', 'deals', 'activities', 'notes', 'tasks'] LOOP
        EXECUTE format('ALTER TABLE store.%I ADD COLUMN props jsonb NOT NULL DEFAULT ''{}''', tab);
    END LOOP;
    -- What changed lately, page by page: the id (its time of creation) has the primary key.
    FOREACH tab IN ARRAY ARRAY['companies', 'contacts', 'leads', 'deals'] LOOP
        EXECUTE format('CREATE INDEX ON store.%I (tenant, updated_at, id)', tab);
    END LOOP;
END
$$;

-- One row per transaction that changed records: who did it, with which tool, and which set it undid.
CREATE TABLE store.change_sets (
    tenant     text NOT NULL,
    id         uuid NOT NULL,
    tool       text,
    undoes     uuid,
    actor      text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

-- What to tell other processes: names only, no data, so the service may read it for every tenant. Rows are told
-- by NOTIFY when they are committed and stay for a while, for whoever was not listening.
CREATE TABLE store.outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text NOT NULL,
    object     text NOT NULL,
    change_set uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_by_age ON store.outbox (created_at);

-- SECURITY DEFINER: the writer tells the world by changing a record and in no other way.
CREATE FUNCTION store.tell_change(tenant text, object text, change_set uuid, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO store.change_sets (tenant, id, tool, undoes, actor)
    VALUES ($1, $3, nullif(current_setting('app.tool', true), ''),
        nullif(current_setting('app.undoes', true), '')::uuid, $4)
    ON CONFLICT DO NOTHING;
    INSERT INTO store.outbox (tenant, object, change_set) VALUES ($1, $2, $3);
    -- The statement needs no right to pg_notify(), which is taken from everybody.
    EXECUTE format('NOTIFY fleet_changes, %L', $1 || '/' || $2);
END
$$;
REVOKE ALL ON FUNCTION store.tell_change(text, text, uuid, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION store.log_inserts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, after, actor)
    SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, NULL, to_jsonb(n) - 'tenant', n.updated_by
    FROM new_rows n;
    PERFORM store.tell_change(n.tenant, TG_ARGV[0], change_set, n.updated_by) FROM (SELECT * FROM new_rows LIMIT 1) n;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION store.log_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, after, actor)
    SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, to_jsonb(o) - 'tenant', to_jsonb(n) - 'tenant',
        n.updated_by
    FROM new_rows n JOIN old_rows o USING (tenant, id);
    PERFORM store.tell_change(n.tenant, TG_ARGV[0], change_set, n.updated_by) FROM (SELECT * FROM new_rows LIMIT 1) n;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    what record;
BEGIN
    FOR what IN SELECT * FROM (VALUES ('links', 'link'), ('properties', 'property')) AS v (tab, object) LOOP
        EXECUTE format($sql$
            CREATE TRIGGER touch BEFORE UPDATE ON store.%1$I
                FOR EACH ROW EXECUTE FUNCTION store.touch();
            CREATE TRIGGER log_inserts AFTER INSERT ON store.%1$I
                REFERENCING NEW TABLE AS new_rows
                FOR EACH STATEMENT EXECUTE FUNCTION store.log_inserts(%2$L);
            CREATE TRIGGER log_updates AFTER UPDATE ON store.%1$I
                REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
                FOR EACH STATEMENT EXECUTE FUNCTION store.log_updates(%2$L);
        $sql$, what.tab, what.object);
    END LOOP;
END
$$;

-- Undoing a move sets stage_changed_at back: the stages entered since then were not, after all.
CREATE OR REPLACE FUNCTION store.remember_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.stage_changed_at < OLD.stage_changed_at THEN
        DELETE FROM store.deal_stage_history
        WHERE tenant = NEW.tenant AND deal_id = NEW.id AND entered_at > NEW.stage_changed_at;
    END IF;
    INSERT INTO store.deal_stage_history (tenant, deal_id, entered_at, pipeline, stage, entered_by)
    VALUES (NEW.tenant, NEW.id, NEW.stage_changed_at, NEW.pipeline, NEW.stage, NEW.updated_by)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['links', 'properties', 'change_sets', 'outbox'] LOOP
        EXECUTE format('ALTER TABLE store.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tab);
    END LOOP;
    FOREACH tab IN ARRAY ARRAY['links', 'properties', 'change_sets'] LOOP
        EXECUTE format($sql$
            CREATE POLICY of_tenant ON store.%I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()))
        $sql$, tab);
    END LOOP;
END
$$;
CREATE POLICY told_by_tenant ON store.outbox FOR INSERT WITH CHECK (tenant = (SELECT authz.tenant()));
CREATE POLICY read_by_service ON store.outbox FOR SELECT TO crm_writer USING (true);
CREATE POLICY cleaned_by_service ON store.outbox FOR DELETE TO crm_writer USING (created_at < now() - interval '1 hour');

GRANT SELECT, INSERT, UPDATE ON store.links, store.properties TO crm_writer;
GRANT SELECT ON store.change_sets TO crm_writer;
GRANT SELECT, DELETE ON store.outbox TO crm_writer;
GRANT DELETE ON store.deal_stage_history TO crm_writer;

-- The reader's views, with the custom properties at the end.
CREATE OR REPLACE VIEW crm.companies AS
    SELECT id, version, name, domain, industry, employees, annual_revenue, country, city, website, phone,
        owner_id, description, created_at, created_by, updated_at, updated_by, props
    FROM store.companies WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.contacts AS
    SELECT id, version, first_name, last_name, email, phone, title, company_id, lifecycle, country, city,
        owner_id, description, created_at, created_by, updated_at, updated_by, props
    FROM store.contacts WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.leads AS
    SELECT id, version, name, email, phone, title, company_name, country, source, status, score, contact_id,
        owner_id, description, created_at, created_by, updated_at, updated_by, props
    FROM store.leads WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.deals AS
    SELECT id, version, name, company_id, contact_id, pipeline, stage, status, amount, currency, expected_close,
        stage_changed_at, closed_at, owner_id, description, created_at, created_by, updated_at, updated_by, props
    FROM store.deals WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.activities AS
    SELECT id, version, kind, subject, body, occurred_at, duration_min, contact_id, company_id, deal_id, lead_id,
        owner_id, created_at, created_by, updated_at, updated_by, props
    FROM store.activities WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.notes AS
    SELECT id, version, body, contact_id, company_id, deal_id, lead_id, owner_id, created_at, created_by,
        updated_at, updated_by, props
    FROM store.notes WHERE deleted_at IS NULL;
CREATE OR REPLACE VIEW crm.tasks AS
    SELECT id, version, title, body, due_at, status, priority, contact_id, company_id, deal_id, lead_id, owner_id,
        created_at, created_by, updated_at, updated_by, props
    FROM store.tasks WHERE deleted_at IS NULL;

CREATE VIEW crm.links AS
    SELECT id, version, from_object, from_id, type, to_object, to_id, created_at, created_by, updated_at, updated_by
    FROM store.links WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.links IS 'Typed links between two records.';

CREATE VIEW crm.properties AS
    SELECT id, version, object, name, kind, about, choices, created_at, created_by, updated_at, updated_by
    FROM store.properties WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.properties IS 'Custom properties of each object; a value is props ->> name.';

CREATE VIEW crm.change_sets AS SELECT id, tool, undoes, actor, changed_at FROM store.change_sets;
COMMENT ON VIEW crm.change_sets IS 'Who changed records when and with which tool; see crm_history.';

GRANT SELECT ON crm.links, crm.properties, crm.change_sets TO crm_reader;
