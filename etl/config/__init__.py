"""Settings: what is set for sources, database and commands, read and validated.

settings     Settings and Source, and the table of all settings
environment  raw values from environment variables
toml_file    aims360.toml: `[sources.NAME]` and `[defaults]`
validation   parse and validate single values
secrets      secret values, and files that hold one
writer       write aims360.toml and .env
"""
