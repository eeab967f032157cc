-- What SQL shows to callers from whom fields are masked: the views of schema crm again, with NULL in those fields.
--
-- The masks stand in the signed claim, after the subject. A statement of such a caller runs as crm_masked, which may read
-- the views of schema masked and nothing else. They are views of their own because a column behind a CASE has no index, and
-- nobody without masks should pay for that.

-- As before, and with a sixth part, the masks, where there are any.
CREATE OR REPLACE FUNCTION authz.claim() RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- nullif: once set with SET LOCAL the setting reads '' in later transactions of the same session.
    raw   text := nullif(current_setting('app.claims', true), '');
    parts text[];
    facts text[];
    key   authz.claim_keys%ROWTYPE;
    told  text;
BEGIN
    IF raw IS NULL THEN
        RETURN NULL;
    END IF;
    parts := string_to_array(raw, '.');
    IF cardinality(parts) NOT IN (5, 6) THEN
        RAISE EXCEPTION 'the claim is malformed' USING ERRCODE = '28000';
    END IF;
    facts := trim_array(parts, 1);
    SELECT * INTO key FROM authz.claim_keys WHERE kid = facts[1];
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the claim is signed with an unknown key' USING ERRCODE = '28000';
    END IF;
    told := pg_backend_pid() || '.' || array_to_string(facts, '.');
    IF parts[cardinality(parts)] IS DISTINCT FROM
        encode(sha256(key.outer_pad || sha256(key.inner_pad || convert_to(told, 'UTF8'))), 'hex') THEN
        RAISE EXCEPTION 'the claim is forged' USING ERRCODE = '28000';
    END IF;
    -- The start of the transaction, so that a long statement does not lose its claim half-way.
    IF facts[2]::bigint < extract(epoch FROM transaction_timestamp()) THEN
        RAISE EXCEPTION 'the claim is expired' USING ERRCODE = '28000';
    END IF;
    RETURN facts;
END
$$;

-- What is masked for the caller, as `email` or `contact.email`; NULL when nothing is.
CREATE FUNCTION authz.masks() RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_to_array(convert_from(decode((authz.claim())[5], 'hex'), 'UTF8'), ',') $$;

-- Whether one of these is masked for the caller.
CREATE FUNCTION authz.hides(names text[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(authz.masks() && names, false) $$;

-- The masked fields of an object, by their names alone: custom properties may be among them.
CREATE FUNCTION authz.hidden(object text) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(split_part(m, '.', -1)), '{}') FROM unnest(authz.masks()) m
    WHERE m NOT LIKE '%.%' OR split_part(m, '.', 1) = object
$$;

CREATE SCHEMA masked;

-- Makes masked.<view> of crm.<view>, whose rows are records of `object`. A view that comes later needs a call of its own;
-- without one, callers with masks do not see it.
CREATE FUNCTION authz.mask_view(view name, object text) RETURNS void LANGUAGE plpgsql AS $fn$
DECLARE
    shown text;
BEGIN
    -- (SELECT …) is asked once per statement, and only where the column is used.
    SELECT string_agg(format(
        'CASE WHEN (SELECT authz.hides(%L::text[])) THEN NULL ELSE %s END::%s AS %I',
        ARRAY[a.attname, object || '.' || a.attname]
            -- An address of a consent or a suppression is somebody's, whoever that is.
            || CASE a.attname WHEN 'address' THEN '{email,contact.email,lead.email,user.email}'::text[] END,
        CASE a.attname WHEN 'props' THEN format('props - (SELECT authz.hidden(%L))', object)
            ELSE quote_ident(a.attname) END,
        format_type(a.atttypid, a.atttypmod), a.attname), ', ' ORDER BY a.attnum)
    INTO shown
    FROM pg_attribute a WHERE a.attrelid = format('crm.%I', view)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE format('DROP VIEW IF EXISTS masked.%I', view);
    EXECUTE format('CREATE VIEW masked.%1$I AS SELECT %2$s FROM crm.%1$I', view, shown);
    EXECUTE format('COMMENT ON VIEW masked.%I IS %L', view, obj_description(format('crm.%I', view)::regclass, 'pg_class'));
    EXECUTE format('GRANT SELECT ON masked.%I TO crm_masked', view);
END
$fn$;

-- Not sync_issues: what stood in the fields of both sides is one text.
SELECT authz.mask_view(v.view, v.object) FROM (VALUES
    ('users', 'user'), ('pipelines', 'pipeline'), ('stages', 'stage'), ('companies', 'company'), ('contacts', 'contact'),
    ('leads', 'lead'), ('lead_status_history', 'lead'), ('lead_models', 'lead_model'), ('deals', 'deal'),
    ('deal_stage_history', 'deal'), ('activities', 'activity'), ('notes', 'note'), ('tasks', 'task'), ('links', 'link'),
    ('properties', 'property'), ('change_sets', 'change_set'), ('segments', 'segment'),
    ('segment_members', 'segment_member'), ('consents', 'consent'), ('suppressions', 'suppression'),
    ('campaigns', 'campaign'), ('campaign_recipients', 'contact'), ('external_refs', 'external_ref')
) AS v (view, object);

REVOKE ALL ON FUNCTION authz.masks(), authz.hides(text[]), authz.hidden(text), authz.mask_view(name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.tenant(), authz.hides(text[]), authz.hidden(text), crm.tenant(), crm.row_too_large()
    TO crm_masked;
-- crm for its two functions: none of its views is granted.
GRANT USAGE ON SCHEMA masked, crm, ext TO crm_masked;
