import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from primia_flwr.errors import FederationError, ProtocolError
from primia_flwr.flower import roster_grid
from primia_flwr.flower.roster_grid import RosterGrid
from strategies.rounds import participation
from strategies.rounds.participation import Participation

NAMES = ["berlin", "munich"]


def query(node):
    return Message(RecordDict({"config": ConfigRecord()}), node, "query.statistics")


@pytest.fixture
def fake(make_site, make_grid):
    return make_grid({5: make_site("munich"), 4: make_site("berlin"), 6: make_site("paris")})


def test_strategies_see_the_selected_nodes_in_the_order_of_their_names(fake):
    grid = RosterGrid(fake, NAMES)
    grid.introduce(5, "munich")
    grid.introduce(4, "berlin")
    assert list(grid.get_node_ids()) == []
    assert grid.select() == ["berlin", "munich"]
    assert list(grid.get_node_ids()) == [4, 5]
    fake.offline.add(4)
    assert list(grid.get_node_ids()) == [4, 5]
    assert grid.select() == ["munich"]
    assert (grid.name_of(5), grid.name_of(6)) == ("munich", "node 6")


def test_a_roster_of_node_ids_is_the_whole_truth(fake):
    grid = RosterGrid(fake, NAMES, {"munich": 5, "berlin": 4, "rome": 6})
    assert grid.online() == [4, 5]
    assert grid.name_of(5) == "munich"
    with pytest.raises(ProtocolError, match="answers as 'munich'; expected 'berlin'"):
        grid.introduce(4, "munich")


def test_a_name_that_is_not_on_the_roster_is_refused(fake):
    with pytest.raises(ProtocolError, match=r"site name 'paris'; .*\(berlin, munich\)"):
        RosterGrid(fake, NAMES).introduce(6, "paris")


def test_a_name_moves_only_to_another_node_when_the_first_is_silent(fake):
    grid = RosterGrid(fake, NAMES)
    grid.introduce(5, "munich")
    with pytest.raises(ProtocolError, match="as another node does"):
        grid.introduce(6, "munich")
    fake.sites[5].always = lambda content, message: None
    grid.ask([query(5)], timeout=0.01)
    grid.introduce(6, "munich")
    assert (grid.name_of(5), grid.name_of(6)) == ("node 5", "munich")


def test_answers_come_one_by_one_with_their_node(fake):
    grid, heard = RosterGrid(fake, NAMES), []
    answers = grid.ask([query(4), query(5)], timeout=5, on_answer=heard.append)
    assert [answer.node for answer in answers] == [4, 5]
    assert heard == answers
    assert all(answer.arrived <= roster_grid.time.monotonic() for answer in answers)


def test_silence_costs_the_timeout_and_no_more(fake):
    fake.sites[4].always = lambda content, message: None
    before = roster_grid.time.monotonic()
    answers = RosterGrid(fake, NAMES).ask([query(4), query(5)], timeout=0.1)
    assert [answer.node for answer in answers] == [5]
    assert 0.1 <= roster_grid.time.monotonic() - before < 2


def test_a_message_that_cannot_be_sent_is_not_waited_for(fake):
    fake.offline.add(4)
    grid, before = RosterGrid(fake, NAMES), roster_grid.time.monotonic()
    assert [answer.node for answer in grid.ask([query(4), query(5)], timeout=60)] == [5]
    assert grid.unsent == {4}
    assert roster_grid.time.monotonic() - before < 5


def test_flowers_own_call_works_without_a_timeout(fake):
    (reply,) = RosterGrid(fake, NAMES).send_and_receive([query(4)])
    assert reply.content["site"]["name"] == "berlin"


def test_what_a_lost_superlink_did_not_keep_is_sent_again(fake, monkeypatch):
    grid, push, failures = RosterGrid(fake, NAMES), fake.push_messages, [1, 1]

    def lost_in_the_middle(messages):
        if failures:
            failures.pop()
            raise ObjectPushError("object", 1, "session")
        return push(messages)

    monkeypatch.setattr(fake, "push_messages", lost_in_the_middle)
    (answer,) = grid.ask([query(4)], timeout=1.0)
    assert (answer.node, answer.message.content["site"]["name"]) == (4, "berlin")
    failures += [1] * 5
    with pytest.raises(ObjectPushError):
        grid.ask([query(4)], timeout=1.0)


class Introductions:
    """An aggregator that introduces every node under the name of its fake site."""

    def __init__(self, fake):
        self.fake = fake

    def introduce(self, grid, nodes, *, timeout, enough):
        for node in nodes:
            grid.introduce(node, self.fake.sites[node].name)
        return dict.fromkeys(nodes)


def test_before_the_first_round_the_others_get_a_short_grace(fake, monkeypatch):
    from primia_flwr.config.experiment.federation import FederationConfig

    del fake.sites[6]
    fake.offline.add(4)
    looks = []

    def look():
        looks.append(1)
        if len(looks) > 10:
            fake.offline.clear()

    fake.on_look = look
    monkeypatch.setattr(participation, "GRACE", 30.0)
    grid = RosterGrid(fake, NAMES)
    cfg = FederationConfig(sites=NAMES, min_sites=1, wait_for_sites=60)
    waiting = []

    def on_event(name, **values):
        if name == "waiting":
            waiting.append(values)

    place = Participation(cfg, grid, Introductions(fake), on_event)
    assert place.gather(0, 1) == []
    assert list(grid.get_node_ids()) == [4, 5]
    assert waiting == [{"online": ["munich"], "needed": 1}]
    fake.offline.add(4)
    fake.on_look = lambda: None
    before = roster_grid.time.monotonic()
    assert [row.site for row in place.gather(2, 1)] == ["berlin"]
    assert roster_grid.time.monotonic() - before < 5


def test_nobody_waits_for_a_site_that_has_left_the_roster(fake):
    """A round of which a sum was half opened as one of its sites was taken off."""
    from primia_flwr.config.experiment.federation import FederationConfig

    cfg = FederationConfig(sites=NAMES, min_sites=1, wait_for_sites=60)
    place = Participation(cfg, RosterGrid(fake, NAMES), Introductions(fake), lambda *_, **__: None)
    before = roster_grid.time.monotonic()
    with pytest.raises(FederationError, match="round 2 was begun with munich, rome, and rome"):
        place.gather(2, 1, ["rome", "munich"])
    assert roster_grid.time.monotonic() - before < 5


def test_enough_good_answers_do_not_wait_for_a_busy_site(fake, monkeypatch):
    from primia_flwr.flower import roster_grid

    monkeypatch.setattr(roster_grid, "_OTHERS", 0.3)
    grid = RosterGrid(fake, NAMES)
    fake.sites[5].always = lambda content, message: None
    before = roster_grid.time.monotonic()
    answers = grid.ask([query(4), query(5), query(6)], timeout=60.0, enough=2)
    assert {answer.node for answer in answers} == {4, 6}
    assert 0.3 <= roster_grid.time.monotonic() - before < 10
    answers = grid.ask([query(4), query(5), query(6)], timeout=1.0, enough=3)
    assert len(answers) == 2
