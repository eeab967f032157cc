-- Who is asking: a claim that only the service can sign, checked by the database itself.
--
-- The service sets `app.claims` with SET LOCAL. A caller of db_query who manages to change the setting still
-- cannot name another tenant, because the claim is HMAC-SHA256 over (backend pid, key id, expiry, tenant, subject).
-- Only core sha256() is used, so no pgcrypto is needed.

CREATE SCHEMA authz;

CREATE TABLE authz.claim_keys (
    kid       text PRIMARY KEY,
    inner_pad bytea NOT NULL, -- key XOR 0x36…: storing the two padded keys saves the loop of HMAC per query
    outer_pad bytea NOT NULL, -- key XOR 0x5c…
    added_at  timestamptz NOT NULL DEFAULT now()
);

-- Returns {kid, expiry, tenant, subject as hex} of the current claim, or NULL when there is none.
-- PARALLEL RESTRICTED: a parallel worker has another pg_backend_pid().
CREATE FUNCTION authz.claim() RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- nullif: once set with SET LOCAL the setting reads '' in later transactions of the same session.
    raw   text := nullif(current_setting('app.claims', true), '');
    parts text[];
    key   authz.claim_keys%ROWTYPE;
    told  text;
BEGIN
    IF raw IS NULL THEN
        RETURN NULL;
    END IF;
    parts := string_to_array(raw, '.');
    IF array_length(parts, 1) IS DISTINCT FROM 5 THEN
        RAISE EXCEPTION 'the claim is malformed' USING ERRCODE = '28000';
    END IF;
    SELECT * INTO key FROM authz.claim_keys WHERE kid = parts[1];
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the claim is signed with an unknown key' USING ERRCODE = '28000';
    END IF;
    told := pg_backend_pid() || '.' || array_to_string(parts[1:4], '.');
    IF parts[5] IS DISTINCT FROM
        encode(sha256(key.outer_pad || sha256(key.inner_pad || convert_to(told, 'UTF8'))), 'hex') THEN
        RAISE EXCEPTION 'the claim is forged' USING ERRCODE = '28000';
    END IF;
    -- The start of the transaction, so that a long statement does not lose its claim half-way.
    IF parts[2]::bigint < extract(epoch FROM transaction_timestamp()) THEN
        RAISE EXCEPTION 'the claim is expired' USING ERRCODE = '28000';
    END IF;
    RETURN parts[1:4];
END
$$;

-- The tenant of the caller; NULL without a claim, and then no policy lets a row through.
CREATE FUNCTION authz.tenant() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (authz.claim())[3] $$;

-- The subject of the caller, such as `key:ab12cd34`; NULL without a claim.
CREATE FUNCTION authz.subject() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$ SELECT convert_from(decode((authz.claim())[4], 'hex'), 'UTF8') $$;

REVOKE ALL ON FUNCTION authz.claim(), authz.tenant(), authz.subject() FROM PUBLIC;
-- Row security calls authz.tenant() with the rights of the role that asks. Neither role gets USAGE on the schema.
GRANT EXECUTE ON FUNCTION authz.tenant() TO crm_reader, crm_writer;
