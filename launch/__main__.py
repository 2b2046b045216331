"""`python -m launch COMMAND`."""

import argparse

from config.environment import load_environment
from launch.base_model import prepare_base_model
from launch.commands import demo, run, services


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m launch", description="Start Whetstone, or parts of it.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="everything, until Ctrl-C")
    commands.add_parser("demo", help="everything on an empty data folder, with simulated annotators, to the end")
    commands.add_parser("base-model", help="write the default language model to DATA_DIR")
    parts = commands.add_parser("services", help="PostgreSQL and Valkey alone, around a command")
    parts.add_argument("program", nargs="+", metavar="-- COMMAND")
    arguments = parser.parse_args()
    environment = load_environment()
    if arguments.command == "run":
        return run(environment)
    if arguments.command == "demo":
        return demo(environment)
    if arguments.command == "services":
        return services(environment, arguments.program)
    return prepare_base_model(environment.default_base_model_folder)


if __name__ == "__main__":
    raise SystemExit(main())
