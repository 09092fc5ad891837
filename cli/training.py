"""`report training`: draw the curves of one or more fits as an HTML page."""

from pathlib import Path

from recommender.report.training import logs_below, read_log, training_page
from recommender.storage.manifest import require_writable, write_text


def write_training_page(place: Path, output: Path) -> None:
    """Draw the training logs in the file or folder `place` as one page.

    Raises:
        SourceError: there is no log.
        CorruptFileError: a log is damaged or empty; names file and line.
        SettingsError: `output` cannot be written.
    """
    require_writable(output)
    logs = {name: read_log(path) for name, path in logs_below(place).items()}
    write_text(output, training_page(logs, subtitle=str(place)))
    print(f"{output}: {sum(map(len, logs.values()))} phases from {len(logs)} logs")
