"""The SQL of db_schema: what the role may read, in as few words as help."""

from __future__ import annotations

from fleet_data.query.models import Detail

# $1 is a pattern of LIKE for the name, with or without its schema; $2 the most relations.
_RELATIONS = """
WITH found AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
        AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
        AND has_schema_privilege(n.oid, 'USAGE')
        AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
        AND (c.relname ILIKE $1 OR n.nspname || '.' || c.relname ILIKE $1)
    ORDER BY n.nspname, c.relname LIMIT $2
)
SELECT quote_ident(f.nspname) || '.' || quote_ident(f.relname) AS relation,
    CASE f.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        ELSE 'table' END AS kind,
    -- Not of a view: behind ours are the rows of all tenants.
    CASE WHEN f.relkind IN ('r', 'p', 'm') AND f.reltuples >= 0 THEN f.reltuples::bigint END AS rows_about,
    obj_description(f.oid, 'pg_class') AS comment{more}
FROM found f ORDER BY f.nspname, f.relname
"""

_COLUMNS = """,
    (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END{comments}, ', ' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND has_column_privilege(f.oid, a.attnum, 'SELECT')) AS columns"""
_COMMENTS = " || coalesce(' (' || col_description(f.oid, a.attnum) || ')', '')"
_KEYS = """,
    ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
          WHERE k.conrelid = f.oid AND k.contype IN ('p', 'u', 'f', 'c')
          ORDER BY k.contype DESC, k.conname) AS constraints,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
          WHERE i.indrelid = f.oid AND NOT i.indisprimary ORDER BY i.indexrelid) AS indexes"""

_BY_DETAIL: dict[Detail, str] = {
    "names": _RELATIONS.format(more=""),
    "columns": _RELATIONS.format(more=_COLUMNS.format(comments="")),
    "full": _RELATIONS.format(more=_COLUMNS.format(comments=_COMMENTS) + _KEYS),
}


def relations_sql(detail: Detail) -> str:
    """Return the statement for one level of detail."""
    return _BY_DETAIL[detail]


def like(glob: str | None) -> str:
    """Return the pattern of LIKE for a glob, in which only `*` stands for something else."""
    if not glob:
        return "%"
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
