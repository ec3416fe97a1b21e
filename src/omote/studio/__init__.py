"""The studio: a page on which a scan becomes an avatar, and the HTTP interface behind it.

    browser ─ guard → app ─ uploads → store (SQLite) → workers ─ a process per job → avatar

`settings` says what a server allows and what a job asks for; `guard` who may ask; `store` keeps jobs across restarts; `workers`
starts, watches and ends the process of each job (`worker`). `docs/studio.md` describes the interface.
"""
