"""How good is a version on what it really said?

`estimated` says it before any label is known, from the scores alone; `realised` when the labels have come home. Both
are pure. `cohorts` reads what was said at an instant and what became true of it, `store` keeps one row for each version
and cohort.
"""
