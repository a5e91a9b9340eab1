"""Outputs kept in a bucket: an S3 on this machine, spoken to as one elsewhere is."""

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from etl.errors import ArchiveError
from etl.jobs.documents import stores
from etl.jobs.documents.partial_files import opened
from etl.postgres import migrations
from etl.postgres.connection import connect
from etl.testing.emulator import populated
from tests.conftest import a_database
from tests.support.documents import Stage
from tests.support.scene import BASE


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    """An S3 with a bucket, which the environment leads to."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    found = s3fs.S3FileSystem()
    found.mkdir("kept")
    yield found
    found.rm("kept", recursive=True)  # the next server of this process would have it still
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_outputs_are_kept_in_a_bucket(
    bucket: s3fs.S3FileSystem, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, recorded by their address, once; what is there already is not written over."""
    monkeypatch.chdir(tmp_path)
    for url in a_database(server_url, "bucket"):
        migrations.migrate(url)
        with connect(url) as db:
            stage = Stage(db, populated(12, seed=3, now=datetime.now(UTC), rate=0, links=BASE), "s3://kept/aims360")
            stage.sync()
            first = stage.fetch()
            assert first.fetched > 5
            rows = stage.rows("SELECT path, bytes, sha256 FROM aims360.document_archive ORDER BY path")
            for path, size, digest in rows:
                content = bucket.cat_file(path)
                assert path.startswith("s3://kept/aims360/aims360/AZ0")
                assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
            assert len(bucket.find("kept")) == len(rows) == first.fetched
            assert stage.fetch().kept_before == first.fetched
            bucket.pipe_file(rows[0][0], b"mine")
            assert stage.fetch().fetched == 1
            assert bucket.cat_file(rows[0][0]) == b"mine"
            db.execute("DELETE FROM aims360.document_archive")
            assert stage.fetch().fetched == first.fetched
            assert len(bucket.find("kept")) == first.fetched + 1


def test_two_that_come_at_once_both_stay(bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    """The store itself refuses to write over what came between the look and the write."""
    store = stores.at("s3://kept/aims360", lambda: tmp_path)
    start = threading.Barrier(4)

    def keep(number: int, path: str) -> str:
        with opened(tmp_path, f"part-{number}") as part:
            assert part is not None
            part.restart(None)
            part.write(b"%d" % number * 1000)
            start.wait()
            return store.keep(part, path)

    with ThreadPoolExecutor(4) as pool:
        for round_ in range(5):
            places = list(pool.map(keep, range(4), [f"{round_}/0-x.csv"] * 4))
            assert [bucket.cat_file(place)[:1] for place in places] == [b"0", b"1", b"2", b"3"]


def test_a_bucket_that_is_not_there_is_said_without_keys(bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    """What happened, where, and that nothing is lost."""
    store = stores.at("s3://nowhere/aims360", lambda: tmp_path)
    with opened(tmp_path, "part") as part:
        assert part is not None
        with pytest.raises(ArchiveError) as told:
            store.keep(part, "a/0-x.csv")
    assert re.fullmatch(r"s3://nowhere/aims360: can't be written \(\w+\); what was kept so far .*", str(told.value))
