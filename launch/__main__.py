"""`python -m launch COMMAND`."""

import argparse

from config.environment import load_environment
from launch import commands


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m launch", description="Start Whetstone, or parts of it.")
    choices = parser.add_subparsers(dest="command", required=True)
    choices.add_parser("run", help="everything, until Ctrl-C")
    demo = choices.add_parser("demo", help="everything on an empty data folder, with simulated annotators, to the end")
    demo.add_argument(
        "arguments", nargs="*", metavar="-- ARGUMENT", help="for `manage.py demo`, such as --oracle curious"
    )
    choices.add_parser(
        "prepare", help="base model, database and static files, for programs that are started one by one"
    )
    choices.add_parser("base-model", help="write the default language model to DATA_DIR, if it is used")
    program = choices.add_parser("program", help="one program alone, in place of this one")
    program.add_argument("name", help="web, worker-default, worker-generate, worker-train or beat")
    services = choices.add_parser("services", help="the private PostgreSQL and Valkey alone, around a command")
    services.add_argument("arguments", nargs="+", metavar="-- COMMAND")
    given = vars(parser.parse_args())
    command = getattr(commands, given.pop("command").replace("-", "_"))
    return command(load_environment(), **given)


if __name__ == "__main__":
    raise SystemExit(main())
