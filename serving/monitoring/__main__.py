"""`python -m serving.monitoring`: write alert rules, dashboard and documentation again from the list of metrics."""

from pathlib import Path

from serving.monitoring.made import files

if __name__ == "__main__":
    for file, text in files(Path.cwd()).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(file)
