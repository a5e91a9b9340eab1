"""The files by which a fleet can be mirrored: `aims360.toml` with a source an account, and a file for each secret."""

import json
from collections.abc import Iterable, Iterator

from etl.testing.emulator.fleet import Addresses
from etl.testing.emulator.tenants import Tenant

_HEAD = """\
# A pretend fleet of AIMS360, made by `aims360-etl emulator --accounts`; it is gone when that command ends.
[defaults]
base_url = {west}
"""


def configured(fleet: Iterable[Tenant], at: Addresses) -> dict[str, str]:
    """Content by path, from the folder that they are to lie in. All but `aims360.toml` and `fleet.json` are secrets.

    `fleet.json` has the addresses.
    """
    files, tables = {"fleet.json": json.dumps(at._asdict())}, [_HEAD.format(west=json.dumps(at.west))]
    for tenant in fleet:
        secrets = _secrets(tenant)
        files |= {f"secrets/{tenant.name}.{key}": text for key, text in secrets.items()}
        tables.append("\n".join(_table(tenant, at, secrets)) + "\n")
    return files | {"aims360.toml": "\n".join(tables)}


def _secrets(tenant: Tenant) -> dict[str, str]:
    given = tenant.credentials
    if given.token is not None:
        return {"token": given.token}
    return {"client_secret": given.client_secret, "password": given.password}


def _table(tenant: Tenant, at: Addresses, secrets: Iterable[str]) -> Iterator[str]:
    yield f"[sources.{tenant.name}]"
    if tenant.region != "west":  # the default
        yield f"base_url = {json.dumps(at.east)}"
    if not tenant.has_token:
        yield f"client_id = {json.dumps(tenant.credentials.client_id)}"
        yield f"username = {json.dumps(tenant.credentials.username)}"
    for key in secrets:
        yield f'{key}_file = "secrets/{tenant.name}.{key}"'
