"""What the gate, the ledger and reproducible extracts need."""

from alembic import op

revision = "0003"
down_revision = "0002"

BUILDS = """
-- When each as_of was first computed by a definition, and how far the events had been loaded by then.
create table features.builds (
    feature_view text not null,
    feature_version text not null,
    as_of timestamptz not null,
    events_loaded_through timestamptz,
    built_at timestamptz not null default now(),
    primary key (feature_view, feature_version, as_of)
);
"""

LEDGER = """
alter table serving.publications
    -- Events that were loaded later but claim to have been known at as_of are backdated.
    add column events_loaded_through timestamptz,
    -- Why it was published, when it was no ordinary publication.
    add column note text,
    -- Not the transaction's beginning: publishing waits its turn, and the ledger has to be in order.
    alter column published_at set default clock_timestamp();
create index publications_as_served on serving.publications (feature_view, published_at, publication_id);
"""

AUDITS = """
create table monitoring.parity_audits (
    publication_id bigint not null,
    feature text not null,
    feature_view text not null,
    as_of timestamptz not null,
    feature_version text not null,
    rows_compared bigint not null,
    mismatches bigint not null,
    example_keys jsonb not null,
    cause text,
    accepted_because text,
    audited_at timestamptz not null default now(),
    primary key (publication_id, feature)
);
"""

EXTRACTS = """
-- Every training extract, named by its content; `spine` is what it asked for, so that it can be asked for again.
create table training.extracts (
    extract_id text primary key,
    training_set text not null,
    feature_view text not null,
    feature_version text not null,
    as_of timestamptz not null,
    knowledge_watermark timestamptz,
    columns jsonb not null,
    row_count bigint not null,
    spine_checksum text not null,
    row_checksum text not null,
    spine bytea not null,
    created_at timestamptz not null default now()
);
"""


def upgrade() -> None:
    """Creates and extends the tables."""
    for statements in (BUILDS, LEDGER, AUDITS, EXTRACTS):
        op.execute(statements)
