"""What a site's staff is told while the site runs: each entry of its log."""

from collections.abc import Callable
from pathlib import Path

from primia_flwr.site.log import LogTail
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.watch.alerts import Alerts
from primia_flwr.site.watch.lines import line_of


class Staff:
    """Tells the staff of each entry of the log: a line here, and the command of `on_event`.

    Parameters
    ----------
    policy : SitePolicy
        The site's.
    policy_file : Path
        Its file, which is read anew for every alert.
    say : callable
        Takes a line for the terminal.
    """

    def __init__(self, policy: SitePolicy, policy_file: Path, say: Callable[[str], None]) -> None:
        self.say = say
        self.alerts = Alerts(policy_file)
        self._tail = LogTail(policy.log_file)

    def look(self) -> None:
        """Tell what is new."""
        for entry in self._tail.new():
            self.say(line_of(entry))
            self.alerts.tell(entry)
