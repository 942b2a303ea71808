"""Imports as tests send and work them, and workers that die while they do."""

import pytest

from postern_api.imports import applying, reviewing
from postern_api.imports.worker import ImportWorker

CSV = {"Content-Type": "text/csv"}


class Died(BaseException):
    """A process that is killed: nothing of it runs any more."""


def text_of(count):
    return "email,first_name\n" + "".join(f"user{number}@acme.com,User {number}\n" for number in range(count))


async def send(api, customer, text):
    made = await api.post(f"{customer}/imports", content=text.encode(), headers=CSV, expect=202)
    return made.headers["Location"]


async def state(api, path):
    return (await api.get(path, expect=200)).json()


async def work(api):
    while await ImportWorker(api.resources).work_once():
        pass


def dying(monkeypatch, kind, name, calls, error=Died):
    """Let the process die in the given call of a method, without giving its lease up."""
    real, seen = getattr(kind, name), []

    async def method(self, *arguments, **options):
        seen.append(name)
        if len(seen) == calls:
            raise error
        return await real(self, *arguments, **options)

    async def release(self, *_, **__):
        """The dead give nothing up."""

    monkeypatch.setattr(kind, name, method)
    if error is Died:
        monkeypatch.setattr("postern_api.imports.store.LeaseStore.release", release)


async def die(api, monkeypatch, kind, name, calls):
    with monkeypatch.context() as patch:
        dying(patch, kind, name, calls)
        with pytest.raises(Died):
            await ImportWorker(api.resources).work_once()


@pytest.fixture
def small_batches(monkeypatch):
    """Reviews and applications of ten rows at a time."""
    monkeypatch.setattr(reviewing, "BATCH", 10)
    monkeypatch.setattr(applying, "BATCH", 10)
