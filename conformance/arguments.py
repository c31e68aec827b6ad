"""Which arguments of the command line are ours, and which are pytest's."""

from itertools import islice

# The plugin's options by what `mmrec verify` calls them. After `--` they mean the same, and are checked as well:
# `tox -e conformance -- ...` reaches only what follows it.
OURS = {
    **{f"--mmrec-{name}": f"--{name}" for name in ("profile", "op", "dtype", "seed", "replay", "time-limit")},
    "--mmrec-result": "--out",
    "--mmrec-subject": "",  # an argument without a name
}


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Ours and pytest's: what follows the first `--` is pytest's, but for the plugin's own options."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    ours, theirs, rest = arguments[:cut], [], iter(arguments[cut + 1 :])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in OURS:
            values = [value] if equals else list(islice(rest, 1))
            ours += [*filter(None, [OURS[name]]), *values]
        else:
            theirs.append(argument)
    return ours, theirs
