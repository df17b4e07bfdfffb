"""The middle of the demo: watch the run, kill a hospital and the coordinator, bring both back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nodes.demo.processes import Fleet, Status
from nodes.errors import StudyStopped

_POLL = 0.25
_LIMIT = 900.0  # seconds; a run that takes longer is stuck and says so

_STAGES = {
    "gradient": "training",
    "breslow": "recalibration",
    "concordance": "evaluation: concordance",
    "calibration": "evaluation: calibration",
    "survival-holdout": "evaluation: censoring",
    "brier": "evaluation: Brier score",
    "auc": "evaluation: AUC",
    "likelihood": "evaluation: likelihood",
    "score-histogram-members": "audit: members",
    "score-histogram-nonmembers": "audit: holdout",
}


@dataclass
class Script:
    """What happens at which training step; each once.

    Args:
        victim: hospital that is killed with SIGKILL.
        kill_at: training step of the kill.
        back_at: training step at which it is started again.
        coordinator_at: training step at which the coordinator is killed and started again.
    """

    victim: str
    kill_at: int = 8
    back_at: int = 12
    coordinator_at: int = 45
    told: list[str] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)

    def play(self, fleet: Fleet, step: int) -> None:
        """Do what is due at this step."""
        if step >= self.kill_at and self._first("kill"):
            fleet.sites[self.victim].kill()
            self.told.append(f"step {step}: {self.victim} killed (SIGKILL); the run goes on without it")
        if step >= self.back_at and "kill" in self._done and self._first("back"):
            fleet.sites[self.victim].start()
            self.told.append(
                f"step {step}: {self.victim} started again; it fetches the sums it missed and replays them"
            )
        if step >= self.coordinator_at and self._first("coordinator"):
            fleet.coordinator.kill()
            fleet.coordinator.start()
            self.told.append(f"step {step}: coordinator killed (SIGKILL) and started again")

    def _first(self, what: str) -> bool:
        if what in self._done:
            return False
        self._done.add(what)
        return True


def watch(fleet: Fleet, script: Script | None, console: Console) -> None:
    """Show the run until every process has ended.

    Raises:
        StudyStopped: a process ended with an error; names it and its last words.
    """
    until = time.monotonic() + _LIMIT
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            statuses = {name: fleet.status(name) for name in fleet.sites}
            step = max((_training_step(status) for status in statuses.values() if status), default=0)
            if script is not None:
                script.play(fleet, step)
            live.update(_picture(fleet, statuses, script))
            codes = {name: daemon.exit_code for name, daemon in fleet.sites.items()}
            codes["coordinator"] = fleet.coordinator.exit_code
            victim = script.victim if script is not None else ""
            for name, code in codes.items():
                if code and not (name == victim and script is not None and fleet.sites[name].starts == 1):
                    daemon = fleet.coordinator if name == "coordinator" else fleet.sites[name]
                    raise StudyStopped(
                        f"{name} ended with exit status {code}: {daemon.last_words()} (log: {daemon.log})"
                    )
            if all(code == 0 for code in codes.values()):
                break
            if time.monotonic() > until:
                raise StudyStopped(
                    f"the demo's study did not end within {_LIMIT:g} s; the logs lie beside each site.toml"
                )
            time.sleep(_POLL)
    console.print()


def _training_step(status: Status) -> int:
    return status.done if status.kind == "gradient" else 10**6


def _picture(fleet: Fleet, statuses: dict[str, Status | None], script: Script | None) -> Group:
    table = Table(expand=False, pad_edge=False)
    for column in (
        "hospital",
        "size",
        "stage",
        "progress",
        "round",
        "hospitals in it",
        "ε spent",
    ):
        table.add_column(column)
    bands = {site.name: site.size_band for site in fleet.consortium.study.sites}
    for name, status in statuses.items():
        code = fleet.sites[name].exit_code
        if code not in (None, 0):
            table.add_row(name, bands[name], Text("killed", style="red"))
        elif status is None:
            table.add_row(name, bands[name], Text("starting", style="dim"))
        else:
            stage = "complete" if code == 0 else _STAGES[status.kind]
            bar = ProgressBar(total=status.of, completed=status.of if code == 0 else status.done, width=24)
            table.add_row(
                name,
                bands[name],
                stage,
                bar,
                str(status.round),
                str(len(status.roster)),
                f"{status.epsilon_spent:.3f}",
            )
    told = [Text(f"  {line}", style="yellow") for line in (script.told if script is not None else [])]
    return Group(table, *told)
