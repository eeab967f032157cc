-- How many exports and imports are due or under way, of all tenants: a number each, for whoever scales the workers.
CREATE FUNCTION store.transfer_depth() RETURNS TABLE (kind text, jobs bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'export', count(*) FROM store.export_jobs WHERE state IN ('queued', 'running')
    UNION ALL
    SELECT 'import', count(*) FROM store.import_jobs WHERE state IN ('queued', 'running')
$$;
REVOKE ALL ON FUNCTION store.transfer_depth() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION store.transfer_depth() TO crm_writer;
