"""Which databases the SQL tests run on: PostgreSQL only where TEST_POSTGRES_URL gives one."""

from __future__ import annotations

import os

# Left out rather than skipped: tests/conftest.py says at the end of the run that PostgreSQL was not there.
SQL_DATABASES = ["sqlite", *(["postgresql"] if os.environ.get("TEST_POSTGRES_URL") else [])]
