-- Undoing a conversion must not leave it among the outcomes that lead_model learns from.
GRANT DELETE ON store.lead_status_history TO crm_writer;
