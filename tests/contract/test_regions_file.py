"""deploy/regions.yaml is a well-formed example of what an installation writes for itself."""

from ipaddress import ip_network
from pathlib import Path

import yaml

from postern_common.addresses import parse_domain

REGIONS = yaml.safe_load((Path(__file__).resolve().parents[2] / "deploy/regions.yaml").read_text(encoding="utf-8"))


def test_ranges_are_whole_public_networks():
    listed = [text for region in REGIONS["regions"].values() for text in region["ranges"]] + REGIONS["directory_ranges"]
    networks = [ip_network(text) for text in listed]
    assert all(network.is_global for network in networks)


def test_each_region_names_mail_exchangers_and_a_smart_host():
    for region in REGIONS["regions"].values():
        assert region["title"]
        assert len({mx["priority"] for mx in region["mx"]}) == len(region["mx"]) >= 2
        for host in (*(mx["host"] for mx in region["mx"]), region["smart_host"], REGIONS["spf_include"]):
            assert parse_domain(host).ascii == host
