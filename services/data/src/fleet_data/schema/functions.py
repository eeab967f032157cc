"""Names that a caller's SQL must not use: what they would do is done by no right to a table.

`migrate` takes the right to execute `REVOKED` from everybody. Where that is impossible, or the database is not ours,
`query.guard` refuses text that names one of them, or of the others.
"""

from __future__ import annotations

# Functions of pg_catalog that PUBLIC may execute and that a reading caller must not: they change the session,
# hold locks, wait, write, run SQL from text, or show what other callers do. By name: a version lacks some.
# Unlocking stays: it does no harm, and the pools of other programs do it on every release.
REVOKED = """
    set_config setseed pg_notify pg_sleep pg_sleep_for pg_sleep_until pg_terminate_backend
    pg_cancel_backend pg_advisory_lock pg_advisory_lock_shared pg_advisory_xact_lock
    pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared query_to_xml query_to_xmlschema
    query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml table_to_xmlschema
    table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema
    database_to_xml database_to_xmlschema database_to_xml_and_xmlschema ts_stat ts_rewrite
    lo_create lo_creat lo_open lo_close loread lowrite lo_lseek lo_lseek64 lo_tell lo_tell64
    lo_unlink lo_truncate lo_truncate64 lo_from_bytea lo_get lo_put lo_import lo_export
    pg_logical_emit_message pg_export_snapshot pg_current_xact_id txid_current setval nextval
    pg_stat_get_activity pg_stat_get_backend_activity pg_stat_get_backend_idset pg_lock_status
    pg_prepared_xact pg_blocking_pids pg_stat_get_backend_client_addr
    pg_stat_get_backend_client_port pg_stat_get_backend_pid pg_stat_get_backend_userid
    pg_stat_get_backend_dbid pg_stat_get_backend_start pg_stat_get_backend_activity_start
    pg_stat_get_backend_xact_start pg_stat_get_backend_wait_event pg_stat_get_backend_subxact
    pg_stat_get_backend_wait_event_type pg_stat_get_backend_io pg_stat_get_backend_wal
    pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked pg_stat_force_next_flush
    pg_control_system pg_control_checkpoint pg_control_recovery pg_control_init
    pg_timezone_names pg_get_loaded_modules
""".split()  # noqa: SIM905 - a list of a hundred quoted names is harder to read

# What only some databases have, or only some roles may: extensions that run SQL from text or speak to other
# servers, files, and the server itself.
ELSEWHERE = """
    dblink dblink_exec dblink_connect dblink_connect_u dblink_open dblink_fetch dblink_close
    dblink_send_query dblink_get_result crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby
    xpath_table http http_get http_post http_put http_delete http_head http_patch
    pg_background_launch pg_stat_statements pg_stat_statements_reset pg_file_write pg_file_read
    pg_read_file pg_read_binary_file pg_ls_dir pg_stat_file pg_ls_logdir pg_ls_waldir pg_ls_tmpdir
    pg_ls_archive_statusdir pg_current_logfile pg_hba_file_rules pg_show_all_file_settings
    pg_reload_conf pg_rotate_logfile pg_promote pg_switch_wal pg_create_restore_point pg_backup_start
    pg_backup_stop pg_wal_replay_pause pg_wal_replay_resume pg_stat_reset pg_stat_reset_shared
    pg_log_backend_memory_contexts pg_replication_origin_create pg_replication_origin_drop
    get_raw_page
""".split()  # noqa: SIM905

# Views that show what other callers do, by the function that each stands on.
VIEWS = {
    "pg_stat_activity": "pg_stat_get_activity",
    "pg_stat_ssl": "pg_stat_get_activity",
    "pg_stat_gssapi": "pg_stat_get_activity",
    "pg_stat_replication": "pg_stat_get_activity",
    "pg_locks": "pg_lock_status",
    "pg_prepared_xacts": "pg_prepared_xact",
}
