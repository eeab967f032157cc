-- Triggers, row security and grants of the CRM.

CREATE FUNCTION store.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE FUNCTION store.follow_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := coalesce(
        (SELECT kind FROM store.stages
         WHERE tenant = NEW.tenant AND pipeline = NEW.pipeline AND key = NEW.stage),
        'open'); -- an unknown stage is refused by its foreign key, with a better message
    IF TG_OP = 'UPDATE' AND NEW.stage_changed_at = OLD.stage_changed_at THEN
        NEW.stage_changed_at := now();
    END IF;
    NEW.stage_changed_at := coalesce(NEW.stage_changed_at, now());
    NEW.closed_at := CASE WHEN NEW.status = 'open' THEN NULL ELSE NEW.stage_changed_at END;
    RETURN NEW;
END
$$;

CREATE TRIGGER follow_stage_on_insert BEFORE INSERT ON store.deals
    FOR EACH ROW EXECUTE FUNCTION store.follow_stage();
CREATE TRIGGER follow_stage_on_update BEFORE UPDATE ON store.deals
    FOR EACH ROW WHEN ((OLD.pipeline, OLD.stage) IS DISTINCT FROM (NEW.pipeline, NEW.stage))
    EXECUTE FUNCTION store.follow_stage();

CREATE FUNCTION store.remember_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO store.deal_stage_history (tenant, deal_id, entered_at, pipeline, stage, entered_by)
    VALUES (NEW.tenant, NEW.id, NEW.stage_changed_at, NEW.pipeline, NEW.stage, NEW.updated_by)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER remember_stage_on_insert AFTER INSERT ON store.deals
    FOR EACH ROW EXECUTE FUNCTION store.remember_stage();
CREATE TRIGGER remember_stage_on_update AFTER UPDATE ON store.deals
    FOR EACH ROW WHEN ((OLD.pipeline, OLD.stage) IS DISTINCT FROM (NEW.pipeline, NEW.stage))
    EXECUTE FUNCTION store.remember_stage();

-- Statement triggers with transition tables: one INSERT into the log per statement, not per row.
-- SECURITY DEFINER: the writer may change records, and may not write the log by hand.
CREATE FUNCTION store.current_change_set() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('app.change_set', true), '')::uuid, gen_random_uuid())
$$;

CREATE FUNCTION store.log_inserts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, after, actor)
    SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, NULL, to_jsonb(n) - 'tenant', n.updated_by
    FROM new_rows n;
    RETURN NULL;
END
$$;

CREATE FUNCTION store.log_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change_set uuid := store.current_change_set();
BEGIN
    INSERT INTO store.change_log (tenant, change_set, object, record_id, version, before, after, actor)
    SELECT n.tenant, change_set, TG_ARGV[0], n.id, n.version, to_jsonb(o) - 'tenant', to_jsonb(n) - 'tenant',
        n.updated_by
    FROM new_rows n JOIN old_rows o USING (tenant, id);
    RETURN NULL;
END
$$;

DO $$
DECLARE
    what record;
BEGIN
    FOR what IN
        SELECT * FROM (VALUES
            ('companies', 'company'), ('contacts', 'contact'), ('leads', 'lead'), ('deals', 'deal'),
            ('activities', 'activity'), ('notes', 'note'), ('tasks', 'task')) AS v (tab, object)
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

-- FORCE: the owner is held to the policies too, so that views owned by it are as well.
-- `(SELECT authz.tenant())` is evaluated once per statement instead of once per row.
DO $$
DECLARE
    tab name;
BEGIN
    FOR tab IN SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'store'::regnamespace AND c.relkind = 'r' AND a.attname = 'tenant'
    LOOP
        EXECUTE format($sql$
            ALTER TABLE store.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY of_tenant ON store.%1$I
                USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
        $sql$, tab);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA store TO crm_writer;
GRANT SELECT ON store.change_log, store.migrations TO crm_writer;
GRANT SELECT, INSERT ON store.deal_stage_history TO crm_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON store.idempotency TO crm_writer;
-- No DELETE on records: they are deleted softly.
GRANT SELECT, INSERT, UPDATE ON store.tenants, store.users, store.pipelines, store.stages, store.companies,
    store.contacts, store.leads, store.deals, store.activities, store.notes, store.tasks TO crm_writer;
