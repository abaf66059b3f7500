"""How often a monitor looks, in the words of systemd and of cron."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

UNITS = {"m": 1, "h": 60, "d": 1440, "w": 10_080}
"""Minutes."""
DAY, WEEK = UNITS["d"], UNITS["w"]
LONGEST = 4 * WEEK
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a monitor may be called: good as a part of file, unit and lock names."""
GOOD_EXITS = "3 6 10"
"""Some scenes were bad and are named, another run was at work, alerts were found: nothing that restarting mends."""
PROGRAM = (sys.executable, "-P", "-m", "geoanom")
"""Without the folder of the settings on the path of modules."""


def minutes_of(every: str) -> int:
    """A period such as ``30m``, ``6h``, ``1d`` or ``2w`` in minutes.

    Raises:
        ConfigError: it is none, or longer than four weeks.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*([mhdw])\s*", every)
    minutes = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= minutes <= LONGEST:
        raise ConfigError(every, "is no period", "write 30m, 6h, 1d or 2w: at least a minute, at most four weeks")
    return minutes


def systemd_units(
    config: Path, every: str, name: str, *, writes: Sequence[Path] = (), user: str = "", program: Sequence[str] = PROGRAM
) -> dict[str, str]:
    """The service and the timer that run one pass after the other, by file name.

    Args:
        config: absolute path of the monitor's settings; variables may be set in a file of the same name with the suffix ``.env``.
        every: the period.
        name: of the monitor.
        writes: absolute folders that a pass writes to, besides that of the settings.
        user: who runs it; root when empty.
        program: what runs geoanom, the executable as an absolute path.

    Raises:
        ConfigError: a period, name or path that units cannot say.
    """
    minutes, unit = minutes_of(every), f"geoanom-{_checked_name(name)}"
    for path in (config, *writes):
        _check_path(path)
    return {f"{unit}.service": _service(config, name, writes, user, program), f"{unit}.timer": _timer(minutes, name)}


def cron_line(config: Path, every: str, *, program: Sequence[str] = PROGRAM) -> str:
    """The line of a crontab that runs one pass after the other.

    Raises:
        ConfigError: a period or a path that cron cannot say.
    """
    _check_path(config)
    when = _cron_times(minutes_of(every))
    if when is None:
        way_out = "choose a period that divides the hour or the day, 1d or 1w, or use --format systemd"
        raise ConfigError(every, "cannot be said in cron", way_out)
    command = shlex.join([*program, "monitor", "run", str(config)])
    if "\\" in command:
        raise ConfigError(config, "a backslash means something else in cron", "choose another path, or use --format systemd")
    return f"{when} " + command.replace("%", r"\%")


def _cron_times(minutes: int) -> str | None:
    if minutes < 60:
        return None if 60 % minutes else f"{_each(minutes)} * * * *"
    if minutes < DAY:
        return None if DAY % minutes or minutes % 60 else f"0 {_each(minutes // 60)} * * *"
    return {DAY: "0 0 * * *", WEEK: "0 0 * * 1"}.get(minutes)


def _each(step: int) -> str:
    return "*" if step == 1 else f"*/{step}"


def _service(config: Path, name: str, writes: Sequence[Path], user: str, program: Sequence[str]) -> str:
    folders = sorted({str(folder) for folder in (config.parent, *writes)})
    in_tmp = any(f"{folder}/".startswith(("/tmp/", "/var/tmp/")) for folder in folders)  # noqa: S108 - is named, not used
    return _unit(
        ("[Unit]", f"Description=geoanom monitor {name}", "Wants=network-online.target", "After=network-online.target"),
        (
            "[Service]",
            "Type=oneshot",
            *([f"User={user}"] if user else []),
            f"WorkingDirectory={_percent(str(config.parent))}",
            f"EnvironmentFile=-{_percent(str(config.with_suffix('.env')))}",
            f"ExecStart={_command([*program, 'monitor', 'run', str(config)])}",
            f"SuccessExitStatus={GOOD_EXITS}",
            "TimeoutStartSec=1d",
            "Nice=10",
            *(["CapabilityBoundingSet="] if user else []),  # root needs its powers to read what belongs to others
            *_hardening(private_tmp=not in_tmp),
            *(f"ReadWritePaths=-{_quoted(folder)}" for folder in folders),
        ),
    )


def _hardening(*, private_tmp: bool) -> tuple[str, ...]:
    """What a pass can do without; memory that is writable and executable stays, as networks are compiled at run time, and so do devices."""
    return (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes" if private_tmp else "ReadWritePaths=/tmp /var/tmp",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
    )


def _timer(minutes: int, name: str) -> str:
    delay_s = min(300, minutes * 60 // 10)  # so that many machines do not ask one catalog at the same second
    return _unit(
        ("[Unit]", f"Description=geoanom monitor {name}, every {minutes} minutes"),
        ("[Timer]", *_times(minutes), f"RandomizedDelaySec={delay_s}"),
        ("[Install]", "WantedBy=timers.target"),
    )


def _times(minutes: int) -> list[str]:
    """Times of the calendar: a machine that was off makes up for them, and daylight saving does not move them.

    Where the day does not divide evenly there are none, and the distance in time has to do.
    """
    if minutes == WEEK:
        return ["OnCalendar=Mon *-*-* 00:00:00 UTC", "Persistent=true"]
    if DAY % minutes:
        return ["OnBootSec=5min", f"OnUnitActiveSec={minutes}min"]
    return [f"OnCalendar={line} UTC" for line in _calendar(minutes)] + ["Persistent=true"]


def _calendar(minutes: int) -> list[str]:
    if minutes < 60 and 60 % minutes == 0:
        return [f"*-*-* *:00/{minutes}:00"]
    starts = sorted({start % 60: start for start in reversed(range(0, DAY, minutes))}.values())
    hours = minutes * len(starts) // 60  # after which the minute of the hour is the same again
    return [f"*-*-* {start // 60:02d}{f'/{hours}' if hours < 24 else ''}:{start % 60:02d}:00" for start in starts]


def _unit(*sections: Sequence[str]) -> str:
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _command(words: Sequence[str]) -> str:
    """A command line as systemd reads it; the first word, the program, is the only one in which a dollar is a dollar."""
    return " ".join([_quoted(words[0]), *(_quoted(word).replace("$", "$$") for word in words[1:])])


def _quoted(word: str) -> str:
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[^A-Za-z0-9_./%$:=@,+-]", word) else escaped


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ConfigError(name, "cannot be a part of a unit's name", "name the monitor with letters, digits, '.', '_' and '-'")
    return name


def _check_path(path: Path) -> None:
    if not path.is_absolute() or not str(path).isprintable():
        raise ConfigError(path, "is not an absolute path of printable characters", "name the file by such a path")


def as_text(units: Mapping[str, str]) -> str:
    """The units as one text, each under its name, for a terminal."""
    return "\n".join(f"# {name}\n{text}" for name, text in units.items())
