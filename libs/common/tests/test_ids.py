"""Identifiers: unique in any number of threads and processes, and in order of time."""

import os
from concurrent.futures import ThreadPoolExecutor

from postern_common.ids import new_id, random_octets


def test_ids_of_many_threads_are_all_different_and_sort_by_time():
    with ThreadPoolExecutor(8) as threads:
        found = [one for part in threads.map(lambda _: [new_id("msg") for _ in range(2000)], range(8)) for one in part]
    assert len(set(found)) == len(found)
    assert all(one.startswith("msg_") and len(one) == 36 and one[16] == "7" for one in found)
    first, second = new_id("evt"), [new_id("evt") for _ in range(50)]
    assert all(first[4:16] <= one[4:16] for one in second)


def test_a_forked_process_gives_out_nothing_that_its_parent_gives_out():
    random_octets()  # there are some in stock now
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(random_octets() for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    octets = os.read(reading, 1000)
    theirs = {octets[at : at + 10] for at in range(0, 1000, 10)}
    assert len(theirs) == 100
    assert not theirs & {random_octets() for _ in range(1000)}
