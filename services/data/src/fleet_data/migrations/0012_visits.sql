-- Visits of the web site, downloads and webinars: what leads do before anybody talks to them.
ALTER TABLE store.activities DROP CONSTRAINT activities_kind_check;
ALTER TABLE store.activities ADD CONSTRAINT activities_kind_check
    CHECK (kind IN ('call', 'meeting', 'email', 'visit'));
