-- The CRM. Every key begins with the tenant, and so does every foreign key: row security does not apply to
-- foreign-key checks, so a key without the tenant would let one tenant point at the rows of another.

CREATE TABLE store.tenants (
    tenant     text PRIMARY KEY CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    seeded_at  timestamptz -- when the demo data was complete
);

CREATE TABLE store.users (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    email      text NOT NULL,
    name       text NOT NULL,
    job        text,
    is_active  boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, email)
);

CREATE TABLE store.pipelines (
    tenant text NOT NULL REFERENCES store.tenants,
    key    text NOT NULL,
    name   text NOT NULL,
    PRIMARY KEY (tenant, key)
);

CREATE TABLE store.stages (
    tenant      text NOT NULL,
    pipeline    text NOT NULL,
    key         text NOT NULL,
    name        text NOT NULL,
    position    integer NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('open', 'won', 'lost')),
    probability integer NOT NULL CHECK (probability BETWEEN 0 AND 100),
    PRIMARY KEY (tenant, pipeline, key),
    FOREIGN KEY (tenant, pipeline) REFERENCES store.pipelines
);

CREATE TABLE store.companies (
    tenant         text NOT NULL REFERENCES store.tenants,
    id             uuid NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    name           text NOT NULL,
    domain         text,
    industry       text,
    employees      integer CHECK (employees >= 0),
    annual_revenue numeric(18, 2),
    country        text,
    city           text,
    website        text,
    phone          text,
    owner_id       uuid,
    description    text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    updated_by     text NOT NULL,
    deleted_at     timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT companies_owner_id FOREIGN KEY (tenant, owner_id) REFERENCES store.users
);
CREATE UNIQUE INDEX companies_domain ON store.companies (tenant, domain) WHERE deleted_at IS NULL;

CREATE TABLE store.contacts (
    tenant      text NOT NULL REFERENCES store.tenants,
    id          uuid NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    first_name  text,
    last_name   text NOT NULL,
    email       text,
    phone       text,
    title       text,
    company_id  uuid,
    lifecycle   text NOT NULL CHECK (lifecycle IN ('subscriber', 'lead', 'qualified', 'customer', 'former')),
    country     text,
    city        text,
    owner_id    uuid,
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT contacts_company_id FOREIGN KEY (tenant, company_id) REFERENCES store.companies,
    CONSTRAINT contacts_owner_id FOREIGN KEY (tenant, owner_id) REFERENCES store.users
);
CREATE UNIQUE INDEX contacts_email ON store.contacts (tenant, email) WHERE deleted_at IS NULL;
CREATE INDEX contacts_by_company ON store.contacts (tenant, company_id);

CREATE TABLE store.leads (
    tenant       text NOT NULL REFERENCES store.tenants,
    id           uuid NOT NULL,
    version      integer NOT NULL DEFAULT 1,
    name         text NOT NULL,
    email        text,
    phone        text,
    title        text,
    company_name text,
    country      text,
    source       text NOT NULL CHECK (source IN ('web', 'referral', 'event', 'outbound', 'partner', 'advert')),
    status       text NOT NULL CHECK (status IN ('new', 'working', 'qualified', 'unqualified', 'converted')),
    score        integer CHECK (score BETWEEN 0 AND 100),
    contact_id   uuid,
    owner_id     uuid,
    description  text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    updated_by   text NOT NULL,
    deleted_at   timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT leads_contact_id FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts,
    CONSTRAINT leads_owner_id FOREIGN KEY (tenant, owner_id) REFERENCES store.users
);
CREATE UNIQUE INDEX leads_email ON store.leads (tenant, email) WHERE deleted_at IS NULL;

CREATE TABLE store.deals (
    tenant           text NOT NULL REFERENCES store.tenants,
    id               uuid NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    name             text NOT NULL,
    company_id       uuid,
    contact_id       uuid,
    pipeline         text NOT NULL,
    stage            text NOT NULL,
    status           text NOT NULL CHECK (status IN ('open', 'won', 'lost')), -- follows the kind of the stage
    amount           numeric(18, 2) CHECK (amount >= 0),
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    expected_close   date,
    stage_changed_at timestamptz NOT NULL,
    closed_at        timestamptz,
    owner_id         uuid,
    description      text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    created_by       text NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    updated_by       text NOT NULL,
    deleted_at       timestamptz,
    PRIMARY KEY (tenant, id),
    CONSTRAINT deals_company_id FOREIGN KEY (tenant, company_id) REFERENCES store.companies,
    CONSTRAINT deals_contact_id FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts,
    CONSTRAINT deals_owner_id FOREIGN KEY (tenant, owner_id) REFERENCES store.users,
    CONSTRAINT deals_stage FOREIGN KEY (tenant, pipeline, stage) REFERENCES store.stages
);
CREATE INDEX deals_by_stage ON store.deals (tenant, pipeline, stage);
CREATE INDEX deals_by_company ON store.deals (tenant, company_id);

-- One row per stage a deal entered; the stage before is the row before.
CREATE TABLE store.deal_stage_history (
    tenant     text NOT NULL,
    deal_id    uuid NOT NULL,
    entered_at timestamptz NOT NULL,
    pipeline   text NOT NULL,
    stage      text NOT NULL,
    entered_by text NOT NULL,
    PRIMARY KEY (tenant, deal_id, entered_at),
    FOREIGN KEY (tenant, deal_id) REFERENCES store.deals
);

CREATE TABLE store.activities (
    tenant       text NOT NULL REFERENCES store.tenants,
    id           uuid NOT NULL,
    version      integer NOT NULL DEFAULT 1,
    kind         text NOT NULL CHECK (kind IN ('call', 'meeting', 'email')),
    subject      text NOT NULL,
    body         text,
    occurred_at  timestamptz NOT NULL,
    duration_min integer CHECK (duration_min >= 0),
    contact_id   uuid,
    company_id   uuid,
    deal_id      uuid,
    lead_id      uuid,
    owner_id     uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    updated_by   text NOT NULL,
    deleted_at   timestamptz,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE store.notes (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    body       text NOT NULL,
    contact_id uuid,
    company_id uuid,
    deal_id    uuid,
    lead_id    uuid,
    owner_id   uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE store.tasks (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    title      text NOT NULL,
    body       text,
    due_at     timestamptz,
    status     text NOT NULL CHECK (status IN ('open', 'done', 'cancelled')),
    priority   text NOT NULL CHECK (priority IN ('low', 'normal', 'high')),
    contact_id uuid,
    company_id uuid,
    deal_id    uuid,
    lead_id    uuid,
    owner_id   uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);

-- What activities, notes and tasks are about.
DO $$
DECLARE
    what text;
BEGIN
    FOREACH what IN ARRAY ARRAY['activities', 'notes', 'tasks'] LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I
                ADD CONSTRAINT %2$I FOREIGN KEY (tenant, contact_id) REFERENCES store.contacts,
                ADD CONSTRAINT %3$I FOREIGN KEY (tenant, company_id) REFERENCES store.companies,
                ADD CONSTRAINT %4$I FOREIGN KEY (tenant, deal_id) REFERENCES store.deals,
                ADD CONSTRAINT %5$I FOREIGN KEY (tenant, lead_id) REFERENCES store.leads,
                ADD CONSTRAINT %6$I FOREIGN KEY (tenant, owner_id) REFERENCES store.users;
            CREATE INDEX ON store.%1$I (tenant, contact_id) WHERE contact_id IS NOT NULL;
            CREATE INDEX ON store.%1$I (tenant, deal_id) WHERE deal_id IS NOT NULL;
            CREATE INDEX ON store.%1$I (tenant, lead_id) WHERE lead_id IS NOT NULL;
        $sql$, what, what || '_contact_id', what || '_company_id', what || '_deal_id', what || '_lead_id',
            what || '_owner_id');
    END LOOP;
END
$$;

-- A call with an idempotency key: written first, in the transaction of the change, so it is there exactly when
-- the change is.
CREATE TABLE store.idempotency (
    tenant     text NOT NULL REFERENCES store.tenants,
    subject    text NOT NULL,
    tool       text NOT NULL,
    key        text NOT NULL,
    args_hash  text NOT NULL,
    response   jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, subject, tool, key)
);

-- Every change of every record, before and after, written by triggers; no role may change it.
CREATE TABLE store.change_log (
    tenant     text NOT NULL,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    change_set uuid NOT NULL,
    object     text NOT NULL,
    record_id  uuid NOT NULL,
    version    integer NOT NULL,
    before     jsonb,
    after      jsonb NOT NULL,
    actor      text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX change_log_by_record ON store.change_log (tenant, record_id, id);
CREATE INDEX change_log_by_set ON store.change_log (tenant, change_set);
