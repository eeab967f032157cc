-- Lead scoring (when a lead entered each status, and the models), segments, and who may be written to.

-- One row per status a lead entered, as deal_stage_history has the stages of a deal.
CREATE TABLE store.lead_status_history (
    tenant     text NOT NULL,
    lead_id    uuid NOT NULL,
    entered_at timestamptz NOT NULL,
    status     text NOT NULL,
    entered_by text NOT NULL,
    PRIMARY KEY (tenant, lead_id, entered_at),
    FOREIGN KEY (tenant, lead_id) REFERENCES store.leads
);

-- What is known of the leads that are there: their present status, since they last changed. Row security is forced
-- on the owner too, so it is lifted for this one statement.
ALTER TABLE store.leads NO FORCE ROW LEVEL SECURITY;
INSERT INTO store.lead_status_history (tenant, lead_id, entered_at, status, entered_by)
SELECT tenant, id, updated_at, status, updated_by FROM store.leads;
ALTER TABLE store.leads FORCE ROW LEVEL SECURITY;

CREATE FUNCTION store.remember_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO store.lead_status_history (tenant, lead_id, entered_at, status, entered_by)
        SELECT n.tenant, n.id, n.updated_at, n.status, n.updated_by FROM new_rows n;
    ELSE
        INSERT INTO store.lead_status_history (tenant, lead_id, entered_at, status, entered_by)
        SELECT n.tenant, n.id, n.updated_at, n.status, n.updated_by
        FROM new_rows n JOIN old_rows o USING (tenant, id) WHERE n.status <> o.status
        ON CONFLICT (tenant, lead_id, entered_at) DO UPDATE SET status = excluded.status; -- twice in one transaction
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER remember_status_on_insert AFTER INSERT ON store.leads
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION store.remember_status();
CREATE TRIGGER remember_status_on_update AFTER UPDATE ON store.leads
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION store.remember_status();

-- Models that lead_model trained; the one in use is active. A tenant without any uses the one that is built in.
CREATE TABLE store.lead_models (
    tenant     text NOT NULL REFERENCES store.tenants,
    version    integer NOT NULL CHECK (version > 0),
    model      jsonb NOT NULL, -- bias, features with their weights, settings of the training
    metrics    jsonb NOT NULL,
    is_active  boolean NOT NULL,
    task       text, -- the task that trained it: another attempt of the same task finds it here
    trained_at timestamptz NOT NULL DEFAULT now(),
    trained_by text NOT NULL,
    PRIMARY KEY (tenant, version),
    UNIQUE (tenant, task)
);
CREATE UNIQUE INDEX lead_models_active ON store.lead_models (tenant) WHERE is_active;

-- A named selection of records: all that a filter finds now, or a list of members.
CREATE TABLE store.segments (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    name        text NOT NULL,
    object      text NOT NULL CHECK (object IN ('contact', 'lead', 'company', 'deal')),
    kind        text NOT NULL CHECK (kind IN ('filter', 'static')),
    filter      text, -- JSON, as crm_search takes it
    owner_id    uuid,
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT segments_filter_check CHECK ((kind = 'filter') = (filter IS NOT NULL)),
    CONSTRAINT segments_owner_id FOREIGN KEY (tenant, owner_id) REFERENCES store.users
);
CREATE UNIQUE INDEX segments_name ON store.segments (tenant, name) WHERE deleted_at IS NULL;

CREATE TABLE store.segment_members (
    tenant     text NOT NULL,
    segment_id uuid NOT NULL,
    record_id  uuid NOT NULL, -- of the object that the segment is of
    added_at   timestamptz NOT NULL DEFAULT now(),
    added_by   text NOT NULL,
    PRIMARY KEY (tenant, segment_id, record_id),
    FOREIGN KEY (tenant, segment_id) REFERENCES store.segments
);

-- What somebody agreed to. By address, not by record: it holds for a lead and for the contact that the lead becomes,
-- and a new address has not agreed to anything.
CREATE TABLE store.consents (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    address     text NOT NULL, -- mail address in lower case, or phone number
    channel     text NOT NULL CHECK (channel IN ('email', 'phone')),
    purpose     text NOT NULL CHECK (purpose ~ '^[a-z][a-z0-9_]{0,39}$'), -- such as marketing
    state       text NOT NULL CHECK (state IN ('pending', 'granted', 'withdrawn')),
    source      text, -- where it was given, such as web form
    decided_at  timestamptz NOT NULL,
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX consents_address ON store.consents (tenant, address, channel, purpose) WHERE deleted_at IS NULL;

-- Whom nobody may write to, whatever was agreed.
CREATE TABLE store.suppressions (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    address     text NOT NULL,
    channel     text NOT NULL CHECK (channel IN ('email', 'phone')),
    reason      text NOT NULL CHECK (reason IN ('unsubscribed', 'bounced', 'complained', 'manual')),
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX suppressions_address ON store.suppressions (tenant, address, channel) WHERE deleted_at IS NULL;

DO $$
DECLARE
    what record;
BEGIN
    FOR what IN SELECT * FROM (VALUES
        ('segments', 'segment'), ('consents', 'consent'), ('suppressions', 'suppression')) AS v (tab, object)
    LOOP
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

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['lead_status_history', 'lead_models', 'segments', 'segment_members', 'consents',
        'suppressions']
    LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
        $sql$, tab);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE ON store.lead_status_history, store.lead_models, store.segments, store.consents,
    store.suppressions TO crm_writer;
GRANT SELECT, INSERT, DELETE ON store.segment_members TO crm_writer;

CREATE VIEW crm.lead_status_history AS SELECT lead_id, entered_at, status, entered_by FROM store.lead_status_history;
COMMENT ON VIEW crm.lead_status_history IS 'One row per status a lead entered, oldest first by entered_at.';

CREATE VIEW crm.lead_models AS
    SELECT version, model, metrics, is_active, trained_at, trained_by FROM store.lead_models;
COMMENT ON VIEW crm.lead_models IS 'Models that score leads; without an active one the built-in model does.';

CREATE VIEW crm.segments AS
    SELECT id, version, name, object, kind, filter, owner_id, description, created_at, created_by, updated_at,
        updated_by
    FROM store.segments WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.segments IS 'Named selections of records, by a filter or as a list of members.';

CREATE VIEW crm.segment_members AS SELECT segment_id, record_id, added_at, added_by FROM store.segment_members;
COMMENT ON VIEW crm.segment_members IS 'Records in static segments.';

CREATE VIEW crm.consents AS
    SELECT id, version, address, channel, purpose, state, source, decided_at, description, created_at, created_by,
        updated_at, updated_by
    FROM store.consents WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.consents IS 'What the owner of an address agreed to.';

CREATE VIEW crm.suppressions AS
    SELECT id, version, address, channel, reason, description, created_at, created_by, updated_at, updated_by
    FROM store.suppressions WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.suppressions IS 'Addresses that nobody may write to.';

GRANT SELECT ON crm.lead_status_history, crm.lead_models, crm.segments, crm.segment_members, crm.consents,
    crm.suppressions TO crm_reader;
