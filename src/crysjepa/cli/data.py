"""The verbs of ``crysjepa data``."""

from __future__ import annotations

from dataclasses import asdict

from crysjepa.cli import arguments, console, options, show
from crysjepa.runtime.files import file_metadata

data_app = console.Verbs(
    help="Named data sets: list them, fetch them, tell about them.", no_args_is_help=True
)


@data_app.command("list")
def data_list() -> None:
    """List the data sets that crysjepa knows.

    Example: crysjepa data list
    """
    from crysjepa import datasets

    show.show_datasets(datasets.available())


@data_app.command("info")
def data_info(name: options.DataSet) -> None:
    """Tell where a data set comes from, its licence and its hash.

    Example: crysjepa data info known
    """
    arguments.choice("data set", name, arguments.REGISTRY)

    from crysjepa import datasets

    for key, value in asdict(datasets.info(name)).items():
        console.say(f"{key:>12}  {value}", soft_wrap=True)
    for line in datasets.contents(name):
        console.say(f"{'holds':>12}  {line}", soft_wrap=True)


@data_app.command("fetch")
def data_fetch(name: options.DataSet, folder: options.Cache = None) -> None:
    """Download a data set, check it, convert it to Parquet, and print where that is.

    An interrupted download goes on. After the conversion the download is no longer needed.

    Example: crysjepa data fetch mp_20
    """
    arguments.choice("data set", name, arguments.REGISTRY)

    from crysjepa import datasets

    with console.progress() as report:
        path = datasets.fetch(name, folder=folder, report=report)
    show.show_fetched(path, file_metadata(path))
