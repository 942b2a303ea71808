"""Results of attempts and the database's answers: what follows from an attempt is written with it, or later."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo.errors import BulkWriteError

from postern_common.errors import Temporary
from postern_common.mongo import Mongo
from postern_edge.queue import Queue, Result

STEPPED_DOWN = {"code": 189, "codeName": "PrimarySteppedDown", "errmsg": "primary stepped down while waiting"}


class Database:
    """Answers group writes with `faults`."""

    def __init__(self, **faults):
        self.faults = {"writeErrors": [], "writeConcernErrors": [], **faults}
        self.clock = SimpleNamespace(now=lambda: datetime.now(UTC))

    def collection(self, *_):
        return self

    direct = collection

    async def bulk_write(self, _updates, **_options):
        raise BulkWriteError(self.faults)


def database(**faults: Any) -> Mongo:
    """A database that answers so."""
    return cast(Mongo, Database(**faults))


@pytest.mark.spec("V3", "R4")
async def test_a_result_that_a_new_primary_may_not_have_is_written_again_with_all_its_events():
    queue = Queue(database(writeConcernErrors=[STEPPED_DOWN]), "edge", timedelta(seconds=60))
    with pytest.raises(Temporary):  # else the recipients' states are written alone, and no event is ever published
        await queue._write_results([Result("msg_1", 1, [], None, [], [{"id": "evt_1"}])])


async def test_a_result_that_the_database_refuses_is_not_written_for_ever():
    refused = {"index": 0, "code": 17419, "errmsg": "too large"}
    queue = Queue(database(writeErrors=[refused], writeConcernErrors=[STEPPED_DOWN]), "edge", timedelta(seconds=60))
    with pytest.raises(BulkWriteError):
        await queue._write_results([Result("msg_1", 1, [], None, [])])
