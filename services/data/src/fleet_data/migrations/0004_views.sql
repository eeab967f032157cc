-- What the reader sees, and all it sees: one view per table, of live rows, without the tenant column.
--
-- The views run with the rights of their owner, who is held to row security by FORCE. The reader therefore needs
-- no right on the tables, and a mask put into a view's column cannot be gone round.

CREATE SCHEMA crm;

CREATE VIEW crm.users AS SELECT id, email, name, job, is_active, created_at FROM store.users;
COMMENT ON VIEW crm.users IS 'People of the own company who own records (owner_id).';

CREATE VIEW crm.pipelines AS SELECT key, name FROM store.pipelines;
CREATE VIEW crm.stages AS SELECT pipeline, key, name, position, kind, probability FROM store.stages;
COMMENT ON VIEW crm.stages IS 'Stages of each pipeline, in the order of position; probability in percent.';

CREATE VIEW crm.companies AS
    SELECT id, version, name, domain, industry, employees, annual_revenue, country, city, website, phone,
        owner_id, description, created_at, created_by, updated_at, updated_by
    FROM store.companies WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.companies IS 'Organisations: customers, prospects, partners.';

CREATE VIEW crm.contacts AS
    SELECT id, version, first_name, last_name, email, phone, title, company_id, lifecycle, country, city,
        owner_id, description, created_at, created_by, updated_at, updated_by
    FROM store.contacts WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.contacts IS 'People, usually at a company.';

CREATE VIEW crm.leads AS
    SELECT id, version, name, email, phone, title, company_name, country, source, status, score, contact_id,
        owner_id, description, created_at, created_by, updated_at, updated_by
    FROM store.leads WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.leads IS 'People who may become customers and are not qualified yet.';

CREATE VIEW crm.deals AS
    SELECT id, version, name, company_id, contact_id, pipeline, stage, status, amount, currency, expected_close,
        stage_changed_at, closed_at, owner_id, description, created_at, created_by, updated_at, updated_by
    FROM store.deals WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.deals IS 'Sales opportunities; status follows the kind of the stage.';

CREATE VIEW crm.deal_stage_history AS
    SELECT deal_id, entered_at, pipeline, stage, entered_by FROM store.deal_stage_history;
COMMENT ON VIEW crm.deal_stage_history IS 'One row per stage a deal entered, oldest first by entered_at.';

CREATE VIEW crm.activities AS
    SELECT id, version, kind, subject, body, occurred_at, duration_min, contact_id, company_id, deal_id, lead_id,
        owner_id, created_at, created_by, updated_at, updated_by
    FROM store.activities WHERE deleted_at IS NULL;
COMMENT ON VIEW crm.activities IS 'Calls, meetings and mails that happened.';

CREATE VIEW crm.notes AS
    SELECT id, version, body, contact_id, company_id, deal_id, lead_id, owner_id, created_at, created_by,
        updated_at, updated_by
    FROM store.notes WHERE deleted_at IS NULL;

CREATE VIEW crm.tasks AS
    SELECT id, version, title, body, due_at, status, priority, contact_id, company_id, deal_id, lead_id, owner_id,
        created_at, created_by, updated_at, updated_by
    FROM store.tasks WHERE deleted_at IS NULL;

-- db_query asks this when a row is larger than it may return, so that one huge cell ends in an error here and
-- not in the memory of the service. VOLATILE: the planner may try a stable function out to estimate a row count.
CREATE FUNCTION crm.row_too_large() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'a row is too large to return' USING ERRCODE = '54000';
END
$$;

-- Lets readiness see that a claim is accepted, and a caller of db_query who it is.
CREATE FUNCTION crm.tenant() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$ SELECT authz.tenant() $$;

GRANT USAGE ON SCHEMA crm TO crm_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA crm TO crm_reader;
REVOKE ALL ON FUNCTION crm.tenant(), crm.row_too_large() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm.tenant(), crm.row_too_large() TO crm_reader;
