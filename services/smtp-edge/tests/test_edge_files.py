"""How many files the process may open."""

import resource

import structlog.testing

from postern_edge.app import raise_file_limit


def test_the_soft_limit_is_raised_and_a_low_hard_limit_is_told():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        with structlog.testing.capture_logs() as lines:
            assert raise_file_limit(hard + 1) == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert [line["event"] for line in lines] == ["file_limit_low"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
