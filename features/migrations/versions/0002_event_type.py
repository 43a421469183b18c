"""What kind of session an event was."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds event_type to the raw events and to the buffer they come through."""
    op.execute("alter table raw.session_events add column event_type text")
    op.execute("alter table raw.load_buffer add column event_type text")
