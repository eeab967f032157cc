-- Campaigns, the mails that leave, and the queue of what is due.

-- Why marketing must not reach an address; NULL when it may. Asked when a mail is claimed, and again just before it
-- leaves. By address, as consents and suppressions are.
CREATE FUNCTION store.mail_block(email text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN email IS NULL THEN 'no_address'
        WHEN EXISTS (SELECT FROM store.suppressions s
            WHERE s.address = lower(email) AND s.channel = 'email' AND s.deleted_at IS NULL) THEN 'suppressed'
        WHEN NOT EXISTS (SELECT FROM store.consents c
            WHERE c.address = lower(email) AND c.channel = 'email' AND c.purpose = 'marketing'
                AND c.state = 'granted' AND c.deleted_at IS NULL) THEN 'no_consent'
    END
$$;

-- Texts to begin a campaign with; a campaign keeps its own copy.
CREATE TABLE store.templates (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    name       text NOT NULL,
    subject    text NOT NULL,
    body       text NOT NULL,
    html       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX templates_name ON store.templates (tenant, name) WHERE deleted_at IS NULL;

CREATE TABLE store.campaigns (
    tenant         text NOT NULL REFERENCES store.tenants,
    id             uuid NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    name           text NOT NULL,
    segment_id     uuid NOT NULL,
    from_name      text NOT NULL,
    subject        text NOT NULL,
    body           text NOT NULL,
    html           text,
    state          text NOT NULL DEFAULT 'draft'
        CHECK (state IN ('draft', 'sending', 'paused', 'done', 'cancelled')),
    note           text, -- why it was paused, when nobody did
    route          text CHECK (route IN ('gmail', 'smtp')),
    max_per_minute integer CHECK (max_per_minute BETWEEN 1 AND 6000),
    send_at        timestamptz,
    launched_at    timestamptz,
    launched_by    text,
    finished_at    timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    updated_by     text NOT NULL,
    deleted_at     timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT campaigns_segment_id FOREIGN KEY (tenant, segment_id) REFERENCES store.segments,
    CONSTRAINT campaigns_launch_check CHECK (state = 'draft' OR (route IS NOT NULL AND launched_at IS NOT NULL))
);
CREATE UNIQUE INDEX campaigns_name ON store.campaigns (tenant, name) WHERE deleted_at IS NULL;

-- Everybody a campaign reaches, once, and what became of each: its truth. The mail's Message-ID is made of the id.
CREATE TABLE store.campaign_recipients (
    tenant      text NOT NULL,
    id          uuid NOT NULL,
    campaign_id uuid NOT NULL,
    contact_id  uuid NOT NULL,
    email       text NOT NULL, -- as it was at the launch: who is written to was approved
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN
        ('queued', 'claimed', 'sent', 'bounced', 'replied', 'unsubscribed', 'unknown', 'skipped')),
    ticket      text, -- recorded before the mail leaves; a draft's id at Gmail
    claimed_by  uuid,
    attempts    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),
    reason      text,
    sent_at     timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, campaign_id, contact_id),
    FOREIGN KEY (tenant, campaign_id) REFERENCES store.campaigns,
    FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts
);
CREATE INDEX campaign_recipients_open ON store.campaign_recipients (tenant, campaign_id, due_at)
    WHERE state IN ('queued', 'claimed');
CREATE INDEX campaign_recipients_sent ON store.campaign_recipients (tenant, sent_at) WHERE sent_at IS NOT NULL;

-- Mails to one person (mail_send), with the same steps.
CREATE TABLE store.mails (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    contact_id uuid NOT NULL,
    email      text NOT NULL,
    state      text NOT NULL CHECK (state IN ('claimed', 'drafted', 'sent', 'bounced', 'unknown', 'skipped')),
    route      text NOT NULL CHECK (route IN ('gmail', 'smtp')),
    ticket     text,
    claimed_by uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    reason     text,
    sent_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts
);
CREATE INDEX mails_sent ON store.mails (tenant, sent_at) WHERE sent_at IS NOT NULL;

-- What is due, for workers that serve every tenant. Its rows say nothing of what they are about, so a worker may read
-- all of them without a claim; whoever takes one does so with the claim of its tenant.
CREATE TABLE store.jobs (
    tenant       text NOT NULL REFERENCES store.tenants,
    kind         text NOT NULL CHECK (kind IN ('campaign', 'workflow')),
    id           uuid NOT NULL,
    due_at       timestamptz NOT NULL DEFAULT now(),
    leased_by    uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant, kind, id)
);
CREATE INDEX jobs_due ON store.jobs (due_at);

DO $$
DECLARE
    what record;
BEGIN
    FOR what IN SELECT * FROM (VALUES ('templates', 'template'), ('campaigns', 'campaign')) AS v (tab, object) LOOP
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
    FOREACH tab IN ARRAY ARRAY['templates', 'campaigns', 'campaign_recipients', 'mails', 'jobs'] LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
        $sql$, tab);
    END LOOP;
END
$$;
CREATE POLICY of_workers ON store.jobs FOR SELECT TO crm_writer USING ((SELECT authz.tenant()) IS NULL);

GRANT SELECT, INSERT, UPDATE ON store.templates, store.campaigns, store.campaign_recipients, store.mails
    TO crm_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON store.jobs TO crm_writer;

CREATE VIEW crm.campaigns AS
    SELECT id, version, name, segment_id, from_name, subject, state, note, route, max_per_minute, send_at,
        launched_at, launched_by, finished_at, created_at, created_by, updated_at, updated_by
    FROM store.campaigns WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.campaigns IS 'Mails to a segment.';

CREATE VIEW crm.campaign_recipients AS
    SELECT campaign_id, contact_id, email, state, reason, attempts, sent_at, updated_at
    FROM store.campaign_recipients;
COMMENT ON VIEW crm.campaign_recipients IS 'Everybody a campaign reaches and what became of the mail.';

GRANT SELECT ON crm.campaigns, crm.campaign_recipients TO crm_reader;
