"""Two busy cores are slow at times: no property test fails for its time."""

from hypothesis import settings

settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")
