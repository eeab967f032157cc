-- Replies to campaigns, and how many mails a tenant has sent in a day, whatever sent them.

ALTER TABLE store.jobs DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('campaign', 'workflow', 'sync', 'sync_inbox', 'replies'));

-- Until when a tenant's mailbox has been looked through.
CREATE TABLE store.reply_looks (
    tenant     text PRIMARY KEY REFERENCES store.tenants,
    looked_at  timestamptz NOT NULL
);
ALTER TABLE store.reply_looks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON store.reply_looks
    USING (tenant = (SELECT authz.tenant())) WITH CHECK (tenant = (SELECT authz.tenant()));
GRANT SELECT, INSERT, UPDATE ON store.reply_looks TO crm_writer;

CREATE INDEX campaign_recipients_claimed ON store.campaign_recipients (tenant) WHERE state = 'claimed';

-- Those on their way count. Row security keeps it to the caller's tenant; who is about to send one more locks the tenant's
-- row first, so that two do not see the same number.
CREATE FUNCTION store.mails_of_the_day() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM store.campaign_recipients WHERE sent_at > now() - interval '1 day')
        + (SELECT count(*) FROM store.campaign_recipients WHERE state = 'claimed')
        + (SELECT count(*) FROM store.mails WHERE sent_at > now() - interval '1 day')
        + (SELECT count(*) FROM store.mails WHERE state = 'claimed' AND claimed_at > now() - interval '2 minutes')
$$;
CREATE INDEX mails_claimed ON store.mails (tenant) WHERE state = 'claimed';
REVOKE ALL ON FUNCTION store.mails_of_the_day() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION store.mails_of_the_day() TO crm_writer;
