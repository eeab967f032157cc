-- A change log that costs a bulk change little: it says what was, and the record itself says what is.
--
-- `before` holds at least the columns that a change touched, as they were; NULL means that the change made the
-- record. How a record was after any change follows from how it is now and from what later changes touched
-- (store.changed_after). Entries of before this migration hold the whole row and are read in the same way.

ALTER TABLE store.change_log DROP COLUMN after;

-- What a record held right after an entry of the log, of the columns that changed later. The earliest of them
-- counts, which jsonb_object_agg reads last.
CREATE FUNCTION store.changed_after(tenant text, record_id uuid, entry bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_object_agg(was.key, was.value ORDER BY l.id DESC), '{}')
    FROM store.change_log l CROSS JOIN jsonb_each(l.before) was
    WHERE l.tenant = $1 AND l.record_id = $2 AND l.id > $3
$$;

-- The foreign key asked this of every row, a fifth of the cost of a new one. Row security sees to it that a
-- statement writes rows of one tenant, and no role may delete a tenant.
CREATE FUNCTION store.require_tenant(tenant text, tab name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM store.tenants t WHERE t.tenant = $1) THEN
        RAISE foreign_key_violation USING MESSAGE = 'there is no such tenant', TABLE = tab,
            CONSTRAINT = tab || '_tenant_fkey';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION store.require_tenant(text, name) FROM PUBLIC;

CREATE OR REPLACE FUNCTION store.log_inserts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    PERFORM store.require_tenant(n.tenant, TG_TABLE_NAME) FROM (SELECT DISTINCT tenant FROM new_rows) n;
    INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, actor)
    SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, NULL, n.updated_by FROM new_rows n;
    PERFORM store.tell_change(n.tenant, TG_ARGV[0], change_set, n.updated_by) FROM (SELECT * FROM new_rows LIMIT 1) n;
    RETURN NULL;
END
$$;

-- The expression for what differs between the rows `o` and `n` of a table, as JSON of how it was.
CREATE FUNCTION store.difference(tab oid) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('(''{'' || concat_ws('','', %s) || ''}'')::jsonb', string_agg(format(
        'CASE WHEN o.%1$I IS DISTINCT FROM n.%1$I THEN %2$L || coalesce(to_json(o.%1$I)::text, ''null'') END',
        attname, to_json(attname) || ':'), ', ' ORDER BY attnum))
    FROM pg_attribute
    WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped
        AND attname NOT IN ('tenant', 'id', 'version', 'created_at', 'created_by', 'updated_at', 'updated_by')
$$;

-- The plan of a statement in a function is kept, and one that was made for a few rows joins many of them by nested
-- loops: minutes for 50,000. Hence a hash join, always. To plan a statement of its own is worth it for many rows.
CREATE OR REPLACE FUNCTION store.log_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off SET enable_mergejoin = off AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM new_rows LIMIT 101) n) > 100 THEN
        EXECUTE format($sql$
            INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, actor)
            SELECT n.tenant, $1, $2, n.id, n.version, %s, n.updated_by
            FROM new_rows n JOIN old_rows o USING (tenant, id)
        $sql$, store.difference(TG_RELID)) USING change_set, TG_ARGV[0];
    ELSE
        INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, actor)
        SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, to_jsonb(o) - 'tenant', n.updated_by
        FROM new_rows n JOIN old_rows o USING (tenant, id);
    END IF;
    PERFORM store.tell_change(n.tenant, TG_ARGV[0], change_set, n.updated_by) FROM (SELECT * FROM new_rows LIMIT 1) n;
    RETURN NULL;
END
$$;
ALTER FUNCTION store.remember_status() SET enable_nestloop = off;
ALTER FUNCTION store.remember_status() SET enable_mergejoin = off;

-- A MERGE sets both by itself, and then there is nothing to call; whoever does not is still put right.
DO $$
DECLARE
    tab name;
BEGIN
    FOR tab IN SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'touch' LOOP
        EXECUTE format($sql$
            DROP TRIGGER touch ON %1$s;
            CREATE TRIGGER touch BEFORE UPDATE ON %1$s FOR EACH ROW
                WHEN (NEW.version IS DISTINCT FROM OLD.version + 1 OR NEW.updated_at IS DISTINCT FROM now())
                EXECUTE FUNCTION store.touch();
        $sql$, tab);
    END LOOP;
    FOR tab IN SELECT relname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE tgname = 'log_inserts' LOOP
        EXECUTE format('ALTER TABLE store.%1$I DROP CONSTRAINT IF EXISTS %2$I', tab, tab || '_tenant_fkey');
    END LOOP;
END
$$;

-- Most new contacts and many deals have no company.
DROP INDEX store.contacts_by_company, store.deals_by_company;
CREATE INDEX contacts_by_company ON store.contacts (tenant, company_id) WHERE company_id IS NOT NULL;
CREATE INDEX deals_by_company ON store.deals (tenant, company_id) WHERE company_id IS NOT NULL;
