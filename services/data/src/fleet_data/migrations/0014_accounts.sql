-- Accounts at other services. What opens them is sealed by the service before it comes here, bound to the row.

CREATE TABLE store.accounts (
    tenant       text NOT NULL REFERENCES store.tenants,
    provider     text NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_]{0,39}$'),
    owner        text NOT NULL, -- subject of the only one who may use it; '' for everybody in the tenant
    id           uuid NOT NULL,
    label        text NOT NULL, -- whose it is there, such as ada@example.com
    external_id  text NOT NULL,
    scopes       text[] NOT NULL,
    secret       bytea, -- NULL once consent was withdrawn
    expires_at   timestamptz, -- of the access token; NULL when unknown
    connected_at timestamptz NOT NULL DEFAULT now(),
    connected_by text NOT NULL,
    refreshed_at timestamptz,
    withdrawn_at timestamptz,
    PRIMARY KEY (tenant, provider, owner),
    UNIQUE (tenant, id),
    CHECK ((secret IS NULL) = (withdrawn_at IS NOT NULL))
);
CREATE INDEX accounts_external ON store.accounts (provider, external_id);

-- Connections that somebody began and a person has not finished in a browser. Each is used once: its row is deleted.
CREATE TABLE store.connections (
    tenant     text NOT NULL REFERENCES store.tenants,
    id         uuid NOT NULL,
    provider   text NOT NULL,
    owner      text NOT NULL,
    started_by text NOT NULL,
    verifier   bytea NOT NULL, -- of PKCE, sealed
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);

GRANT EXECUTE ON FUNCTION authz.subject() TO crm_writer;

ALTER TABLE store.accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY of_owner ON store.accounts
    USING (tenant = (SELECT authz.tenant()) AND owner IN ('', (SELECT authz.subject())))
    WITH CHECK (tenant = (SELECT authz.tenant()) AND owner IN ('', (SELECT authz.subject())));
ALTER TABLE store.connections ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON store.connections
    USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));

-- No view and nothing for the reader: SQL of callers never comes near a secret.
GRANT SELECT, INSERT, UPDATE, DELETE ON store.accounts, store.connections TO crm_writer;

-- For the two functions below alone: no view shows this table.
CREATE POLICY of_functions ON store.accounts FOR SELECT TO crm_migrator USING (true);

-- Whose an account is, for what its provider tells us unasked: names of tenants and nothing else.
CREATE FUNCTION store.tenants_of_account(of_provider text, of_external_id text) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT tenant FROM store.accounts
    WHERE provider = of_provider AND external_id = of_external_id AND owner = '' AND secret IS NOT NULL
    ORDER BY tenant
$$;

-- Which accounts are sealed with another key than the newest: where they are, not what is in them.
CREATE FUNCTION store.accounts_sealed_before(newest bytea)
RETURNS TABLE (tenant text, provider text, owner text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT tenant, provider, owner FROM store.accounts
    WHERE secret IS NOT NULL AND substring(secret FOR octet_length(newest)) <> newest
$$;
REVOKE ALL ON FUNCTION store.tenants_of_account(text, text), store.accounts_sealed_before(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION store.tenants_of_account(text, text), store.accounts_sealed_before(bytea) TO crm_writer;
