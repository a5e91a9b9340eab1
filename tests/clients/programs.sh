#!/bin/sh
# The programs of the system that tests/clients need, and which are missing: installed where that may be done here
# (Debian, as root), else named in one line. Nothing is asked of apt-get where nothing is missing.
set -eu

missing=
packages=
need() { # what people call it, Debian's package, and a command that succeeds where it is here
  program=$1 package=$2
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    missing="$missing${missing:+, }$program"
    packages="$packages $package"
  fi
}
any() { # whether one of these commands is here
  for command in "$@"; do
    if command -v "$command"; then return 0; fi
  done
  return 1
}
look() {
  missing=
  packages=
  need "Chromium" chromium any chromium chromium-browser google-chrome
  need "unixODBC" unixodbc any odbcinst
  need "psqlODBC (the ODBC driver \"PostgreSQL Unicode\")" odbc-postgresql odbcinst -q -d -n "PostgreSQL Unicode"
  need "Java" default-jre-headless any java
  need "zsh" zsh any zsh
  need "fish" fish any fish
  need "pgjdbc (its jar in PGJDBC)" libpostgresql-jdbc-java test -e "${PGJDBC:-/usr/share/java/postgresql.jar}"
  need "Prometheus (prometheus and promtool)" prometheus any promtool
  need "systemd-analyze" systemd any systemd-analyze
  need "PgBouncer" pgbouncer any pgbouncer /usr/sbin/pgbouncer
}

look
if test -n "$missing" && test "$(id -u)" = 0 && command -v apt-get >/dev/null; then
  echo "test-clients: apt-get install$packages"
  export DEBIAN_FRONTEND=noninteractive
  # Where it fails it says why, and what is still missing is named below.
  # shellcheck disable=SC2086 # the packages are words
  apt-get update -qq &&
    apt-get install -o DPkg::Lock::Timeout=120 -qq --yes --no-install-recommends $packages >/dev/null || :
  look
fi
if test -n "$missing"; then
  echo "make test-clients needs these programs, install them: $missing" >&2
  exit 1
fi
