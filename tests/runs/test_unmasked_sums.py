from primia_flwr.runs.unmasked_sums import ListRule, OpenedSums

ROSTER, BASE, OTHER = b"r" * 32, b"m" * 32, b"n" * 32


def test_a_list_holds_for_the_round_and_for_the_model(tmp_path):
    opened = OpenedSums(tmp_path)
    opened.remember("evaluate", 3, ROSTER, BASE, ("paris", "berlin"))
    for known in (opened, OpenedSums(tmp_path)):
        assert known.sites("evaluate", 3, ROSTER, OTHER) == ["berlin", "paris"]
        assert known.sites("train", 4, ROSTER, BASE) == ["berlin", "paris"]
        assert known.sites("train", 4, ROSTER, OTHER) == []
        assert known.sites("train", 3, ROSTER, OTHER) == []


def test_the_statistics_are_those_of_the_roster(tmp_path):
    run, roster = tmp_path / "run", tmp_path / "roster"
    run.mkdir(), roster.mkdir()
    OpenedSums(run, roster).remember("statistics", 0, ROSTER, BASE, ("paris",))
    assert OpenedSums(tmp_path / "other", roster).sites("statistics", 0, ROSTER, OTHER) == ["paris"]
    assert OpenedSums(run).sites("statistics", 0, b"s" * 32, BASE) == []


def test_statistics_are_asked_anew_of_other_sites_and_after_a_day(tmp_path):
    four = OpenedSums(tmp_path, tmp_path, ListRule(3, "", "a,b,c,d"))
    four.remember("statistics", 0, b"roster", b"", ("a", "b", "c", "d"))
    assert four.sites("statistics", 0, b"roster", b"") == ["a", "b", "c", "d"]
    three = OpenedSums(tmp_path, tmp_path, ListRule(0, "", "a,b,c"))
    assert three.sites("statistics", 0, b"roster", b"") == []
    later = OpenedSums(tmp_path, tmp_path, ListRule(3, "9999-01-01", "a,b,c,d"))
    assert later.sites("statistics", 0, b"roster", b"") == []
    assert later.newest(b"roster") == []
    assert later.largest_safe(["a", "b", "c"], b"roster") == ["a", "b", "c"]
    assert four.largest_safe(["a", "b", "c"], b"roster") == [], "d's would be the difference"
